"""Bad input: one clear message on stderr, exit code 2, before any computation."""

import json
import sys

import pytest

from rsverify import cli
from rsverify.definitions.claims import HEADLINES
from rsverify.studies import verify as study


def run(capsys, *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    return int(stop.value.code or 0), capsys.readouterr().err


@pytest.fixture(autouse=True)
def no_work(monkeypatch, tmp_path):
    """Any witness that is asked has begun to work: that fails the test."""
    monkeypatch.chdir(tmp_path)

    def work(*_, **__):
        raise AssertionError("work began before the input was refused")

    for stage in ("_derive_all", "_estimate_all", "_measure_all"):
        monkeypatch.setattr(study, stage, work)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ranks", "0,4"], "0 is not a rank"),
        (["--ranks", "-4,8"], "-4 is not a rank"),
        (["--ranks", "4,4"], "repeated"),
        (["--ranks", "4.5,8"], "not a whole number"),
        (["--ranks", "8,4"], "comes after"),
        (["--ranks", "8"], "at least two ranks"),
        (["--rule", "alpha/"], "does not parse"),
        (["--rule", "alpha/(r-4)"], "divides by zero at r=4"),
        (["--rule", "-alpha/r"], "negative"),
        (["--rule", "(8-r)**0.5", "--ranks", "9,16"], "complex"),
        (["--rule", "exp(r)"], "leave the range of floats"),
        (["--rule", "__import__('os')"], "may not be called"),
        (["--rule", "().__class__"], "not in the language"),
        (["--rule", "rslorra"], "did you mean 'rslora'"),
        (["--optimizer", "adamv"], "or 'adamw'"),
        (["--optimizer", "adamw:epsi=1"], "did you mean 'eps'"),
        (["--adapter", "lorra"], "did you mean 'lora'"),
        (["--quantity", "updat", "--expect", "stable"], "did you mean 'update'"),
        (["--device", "tpu"], "expected cpu, cuda or cuda:<index>"),
        (["--device", "tpu", "--quick"], "expected cpu, cuda or cuda:<index>"),
        (["--device", "cuda:99", "--quick"], "is not there"),
        (["--device", "cpu:3"], "expected cpu, cuda or cuda:<index>"),
        (["--device", "cuda:-1", "--quick"], "expected cpu, cuda or cuda:<index>"),
        (["--device", "tpu", "--model", "x", "--config", "x", "--text", "x"], "expected cpu, cuda or cuda:<index>"),
        (["--expect", "stabel"], "stabel"),
        (["--rnaks", "4,8"], "rnaks"),
        (["--json", "no/such/folder/x.json"], "does not exist"),
        (["--seed", "-1"], "seed"),
        (["--model", "x"], "--config"),
        (["--text", "x"], "--model"),
    ],
)
def test_refused(capsys, words, said):
    code, message = run(capsys, "verify", *words)
    assert code == 2
    assert said in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "verb", [["train", "lora"], ["reproduce"], ["reproduce", "--quick"], ["atlas"], ["atlas", "--quick"]], ids=" ".join
)
@pytest.mark.parametrize("workers", ["0", "-1"])
def test_no_workers(capsys, verb, workers):
    """Every verb that has --workers; a ZeroDivisionError of `train` once."""
    code, message = run(capsys, *verb, "--workers", workers)
    assert code == 2
    assert f"workers={workers}; expected a whole number from 1" in message


def test_no_workers_of_the_functions(tmp_path):
    from rsverify.errors import InputError
    from rsverify.studies.atlas import atlas
    from rsverify.studies.reproduce import plan, study
    from rsverify.training import train_stacked

    for call in (
        lambda: atlas(["lora"], workers=0),
        lambda: study.reproduce(plan=plan.quick(seed=0), out=tmp_path, workers=-1),
        lambda: train_stacked(None, [], workers=0),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match="expected a whole number from 1"):
            call()


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "", "cpu:3", "meta", "cuda:x"])
def test_train_on_a_device_that_is_not_there(capsys, device):
    code, message = run(capsys, "train", "lora", "--device", device)
    assert code == 2
    assert f"device={device!r} is not" in message


def test_cuda_that_is_not_there(capsys):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here: its absence cannot be shown")
    code, message = run(capsys, "verify", "--device", "cuda")
    assert code == 2
    assert "not there" in message


def test_devices_are_counted_from_zero(monkeypatch):
    torch = pytest.importorskip("torch")
    from rsverify.definitions.devices import refuse_device
    from rsverify.errors import InputError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name in ("cpu", "cpu:0", "cuda", "cuda:0", torch.device("cpu")):
        refuse_device(name)
    with pytest.raises(InputError, match="torch sees 1 CUDA device, counted from 0"):
        refuse_device("cuda:1")


def test_base_with_a_wrong_hash(capsys, monkeypatch):
    from rsverify.training.model import base

    read = base._data
    monkeypatch.setattr(base, "_data", lambda name: read(name)[:-1] if name.endswith(".safetensors") else read(name))
    code, message = run(capsys, "verify")
    assert code == 2
    assert "sha256" in message and "damaged or was replaced" in message


def test_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, message = run(capsys, "verify", "--out", str(tmp_path / "file" / "below"))
    assert code == 2
    assert "cannot be written" in message


def test_unknown_verb_and_version(capsys):
    assert run(capsys, "verfy")[0] == 2
    assert run(capsys, "--version")[0] == 0


@pytest.mark.parametrize("verb", ["verify", "derive", "estimate", "solve", "transfer", "report"])
def test_every_verb_has_help_with_an_example(capsys, verb):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert not stop.value.code
    out = capsys.readouterr().out
    assert "xample" in out
    assert f"rsverify {verb}" in " ".join(out.split())


def test_interruption_keeps_the_rows_that_are_done(capsys, monkeypatch, tmp_path):
    from rsverify.records import Prediction
    from rsverify.report.results import read_results

    def derive(table, *_, **__):
        for index, s in enumerate(table.settings, start=1):
            table.predicted[s.claim] = Prediction(s.claim, None, zero=True)
            yield "derive", index, len(table.settings)

    def stop(*_, **__):
        yield "simulate", 0, 1
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "_derive_all", derive)
    monkeypatch.setattr(study, "_estimate_all", stop)
    monkeypatch.setattr(study, "_skip_training", lambda table: iter(()))
    code, message = run(capsys, "verify", "--quick", "--out", str(tmp_path / "out"))
    assert code == 130
    assert "interrupted" in message
    verdict = read_results(tmp_path / "out" / "results.json")
    assert not verdict.complete
    assert len(verdict.rows) == 2 * 2 * len(HEADLINES)  # --quick judges headline rows only
    assert json.loads((tmp_path / "out" / "results.json").read_text())["complete"] is False


def test_help_is_light():
    """`--help` loads neither torch nor sympy nor scipy.stats nor matplotlib."""
    import subprocess

    heavy = ("torch", "sympy", "scipy.stats", "matplotlib")
    code = "import sys; from rsverify import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
