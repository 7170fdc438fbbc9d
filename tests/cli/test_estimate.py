"""`rsverify estimate`: what it shows, writes and refuses, and what it does not load."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from rsverify import cli
from rsverify.montecarlo.estimation import RANKS
from rsverify.records import Estimate, from_json

GAUSSIAN = ("lora", "--init", "A=gaussian(std=1/sqrt(i))")


def run(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(["estimate", *words])
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


@pytest.mark.statistical
def test_it_answers_and_writes(capsys, tmp_path) -> None:
    files = [str(tmp_path / name) for name in ("curve.csv", "curve.svg", "found.json")]
    code, out, _ = run(
        capsys, *GAUSSIAN, "--rule", "alpha/r", "--precision", "0.01", "--csv", files[0], "--out", files[1], "--json", files[2]
    )
    assert code == 0 and "collapses within +-0.1" in out and "engine gram" in out
    found = from_json(Estimate, json.loads((tmp_path / "found.json").read_text()))
    assert found.interval is not None and found.interval[0] < -1 < found.interval[1] and found.engine == "gram"
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert [int(row["rank"]) for row in rows] == list(found.ranks) == list(RANKS)
    assert [float(row["value"]) for row in rows] == [p.value for p in found.curve]
    assert "<svg" in (tmp_path / "curve.svg").read_text()


@pytest.mark.statistical
def test_open_answers_exit_with_three(capsys) -> None:
    code, out, _ = run(capsys, *GAUSSIAN, "--rule", "alpha/r**0.55", "--ranks", "4,8,16", "--draws", "1000")
    assert code == 3 and "inconclusive within +-0.1" in out and "draws would settle it" in out


@pytest.mark.statistical
def test_calibrate_reports_and_judges(capsys, tmp_path) -> None:
    words = (*GAUSSIAN, "--ranks", "4,32,256,2048", "--precision", "0.05", "--calibrate", "--repeats", "60")
    code, out, _ = run(capsys, *words, "--json", str(tmp_path / "c.json"))
    assert code == 0 and "promises kept" in out and "intervals that hold the truth" in out
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["holds"] is True and found["coverage"]["trials"] == 60 and found["truth"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--draws", "0"], "draws=0"),
        (["--draws", "100"], "at least 32 draws each"),
        (["--ranks", "8"], "one rank has no slope"),
        (["--precision", "1e-7"], "takes about"),
        (["--precision", "0"], "precision=0"),
        (["--lr", "1e30", "--steps", "5", "--rule", "alpha"], "diverges: at rank 4 the numbers of step 3"),
        (["--out", "x.gif"], "expected .svg, .png or .pdf"),
        (["--out", "no/x.svg"], "does not exist"),
        (["--csv", "no/x.csv"], "does not exist"),
        (["--init", "B"], "expected FACTOR=LAW"),
        (["--init", "A=gauss"], "did you mean 'gaussian'"),
        (["--init", "C=zero"], "factor='C' is not known"),
        (["--engine", "gramm"], "did you mean 'gram'"),
        (["--samples", "0"], "samples=0"),
        (["--memory", "-1"], "expected a positive size such as"),
        (["--memory", "256"], "memory='256'; expected a positive size such as"),
        (["--seconds", "0"], "seconds=0"),
        (["--error-budget", "2"], "error_budget=2"),
        (["--calibrate", "--repeats", "3"], "expected a whole number from 20"),
    ],
)
def test_refused(capsys, words: list[str], said: str) -> None:
    code, _, err = run(capsys, *GAUSSIAN, *words)
    assert code == 2 and said in err and "Traceback" not in err


def test_a_slope_loads_nothing_heavy() -> None:
    heavy = ("torch", "sympy", "scipy", "matplotlib", "rich", "jinja2")
    words = ["estimate", *GAUSSIAN, "--ranks", "4:65536", "--precision", "0.005"]
    code = f"import sys; from rsverify import cli\ntry: cli.main({words})\nexcept SystemExit as stop: assert not stop.code\n"
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_progress_is_for_terminals_and_long_runs_only(monkeypatch) -> None:
    from rsverify.cli.estimate import Bar

    class Terminal:
        text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None: ...

    terminal = Terminal()
    bar = Bar(terminal)
    bar("pilot", 1, 3)
    bar.end()
    assert terminal.text == ""
    bar.begun -= 5
    bar("pilot", 2, 3)
    bar.end()
    assert "pilot: 2/3" in terminal.text and terminal.text.endswith("\x1b[K")
