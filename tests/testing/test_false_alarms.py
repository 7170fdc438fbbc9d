"""The benchmark of false alarms keeps each answer as it comes, goes on where it stopped, and counts different adapters only."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[2] / "benchmarks" / "conformance_false_alarms.py"


@pytest.fixture
def benchmark(monkeypatch):
    spec = importlib.util.spec_from_file_location("conformance_false_alarms", _FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # The places and budgets that a run sets are module attributes: put them back.
    for holder, name in ((module.firststep, "MOST"), (module.firststep, "PLACES"), (module.stability, "ENTRIES")):
        monkeypatch.setattr(holder, name, getattr(holder, name))
    monkeypatch.setattr(module, "BATCH", 12)
    return module


def _answer(number, drawn, only=None):
    adapter, rule, alpha = drawn
    row = {"expression": adapter.expression, "init": adapter.init, "rule": rule.text, "alpha": alpha, "seed": number}
    return {**row, "passed": 1, "failed": 0, "inconclusive": 0, "skipped": 0, "alarms": {}}


def test_a_run_that_was_cut_off_goes_on(benchmark, monkeypatch, tmp_path):
    out = tmp_path / "found.json"
    judged = []

    def judge(number, drawn, only=None):
        if len(judged) == 3:
            raise KeyboardInterrupt
        judged.append(number)
        return _answer(number, drawn)

    monkeypatch.setattr(benchmark, "judge", judge)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(["--adapters", "6", "--out", str(out)])
    lines = out.with_suffix(".jsonl")
    assert len(lines.read_text().splitlines()) == 4
    with lines.open("a") as file:
        file.write('{"text": "half a li')  # as a kill leaves it
    assert benchmark.main(["--summarize", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["different"] == 3
    monkeypatch.setattr(benchmark, "judge", lambda number, drawn, only=None: judged.append(number) or _answer(number, drawn))
    assert benchmark.main(["--adapters", "6", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert judged == [0, 1, 2, 3, 4, 5] and found["adapters"] == found["different"] == 6
    assert len(found["checks_run"]) >= 71 and found["provenance"]["settings"]["adapters"] == 6


def test_an_alarm_is_counted_and_told(benchmark, monkeypatch, tmp_path):
    monkeypatch.setattr(
        benchmark, "judge", lambda number, drawn, only=None: _answer(number, drawn) | {"failed": 1, "alarms": {"check_x": "why"}}
    )
    assert benchmark.main(["--adapters", "2", "--out", str(tmp_path / "found.json")]) == 1
    assert json.loads((tmp_path / "found.json").read_text())["adapters_with_a_false_alarm"] == 2


def test_no_adapter_is_drawn_twice(benchmark):
    texts = [text for text, _ in benchmark.different(20)]
    assert len(set(texts)) == 20 and texts == [text for text, _ in benchmark.different(20)]


def test_a_folder_that_cannot_be_written_is_refused_before_work(benchmark, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "judge", lambda number, drawn, only=None: pytest.fail("work was started"))
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="cannot be written.*another --out"):
        benchmark.main(["--out", str(tmp_path / "file" / "found.json")])


def test_answers_of_other_checks_are_not_mixed(benchmark, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "judge", _answer)
    benchmark.main(["--adapters", "1", "--out", str(tmp_path / "found.json")])
    with pytest.raises(SystemExit, match="other draws or other checks"):
        benchmark.main(["--adapters", "1", "--draws", "64", "--out", str(tmp_path / "found.json")])


def test_answers_do_not_depend_on_the_workers(tmp_path):
    rows = []
    for workers in ("1", "2"):
        out = tmp_path / f"{workers}.json"
        command = [sys.executable, str(_FILE), "--adapters", "3", "--workers", workers, "--only", "check_init_identity", "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "3 of 3, some 0 min left" in done.stdout and "at a rate of at most" in done.stdout
        rows.append(json.loads(out.read_text())["rows"])
    assert rows[0] == rows[1] and len(rows[0]) == 3


def test_a_count_that_cannot_be_meant_is_refused(benchmark, tmp_path):
    with pytest.raises(SystemExit, match="--workers 0: expected whole numbers from 1"):
        benchmark.main(["--workers", "0", "--out", str(tmp_path / "found.json")])
