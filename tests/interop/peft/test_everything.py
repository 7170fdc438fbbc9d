"""The list that ships with us for the pinned PEFT is exact: what is expected to fail fails, and nothing else does."""

import json
from importlib.metadata import version

import pytest

from rsverify import cli
from rsverify.conformance.outcomes import Wrong
from rsverify.conformance.registry import checks
from rsverify.conformance.xfails import expected_for, read_xfails
from rsverify.errors import InputError
from rsverify.interop.peft import models
from rsverify.interop.peft.everything import check_everything, every_target, exit_code, known_checks
from rsverify.interop.peft.known import shipped
from rsverify.interop.peft.operations import scales
from rsverify.interop.peft.target import known_as

pinned = pytest.mark.skipif(version("peft") != "0.21.2", reason="the list is that of PEFT 0.21.2")


@pinned
@pytest.mark.parametrize("target", [target for target in every_target() if "@" in target])
def test_other_layers_and_operations_fail_where_expected_and_nowhere_else(target):
    (row,) = check_everything(shipped(), targets=[target])
    assert [r.name for r in row.results if r.status in ("failed", "xpassed", "inconclusive")] == []
    assert any(r.status in ("passed", "xfailed") for r in row.results)


@pinned
@pytest.mark.parametrize("target", ["peft:lora", "peft:lora?use_rslora=true", "peft:lora?use_dora=true", "peft:loha", "peft:miss"])
def test_the_suite_fails_where_expected_and_nowhere_else(target):
    names = [name for name, check in checks().items() if check.family != "stability"]  # those are slow, and run with `peft:all`
    (row,) = check_everything(shipped(), targets=[target], only=names)
    assert [(r.name, r.reason) for r in row.results if r.status in ("failed", "xpassed")] == []
    assert sum(r.status == "passed" for r in row.results) > 30


def test_every_line_of_the_list_fits_a_target_and_is_the_one_that_counts():
    lines = read_xfails(shipped(), known_checks())
    used = {(line.target, line.check) for target in every_target() for line in lines
            if line.fits(known_as(target)) and expected_for(known_as(target), lines).get(line.check) == line.reason}  # fmt: skip
    assert [line for line in lines if (line.target, line.check) not in used] == []


def test_a_check_of_operations_passes_on_a_library_that_keeps_its_promise(monkeypatch):
    """The checks of operations are known to fail on PEFT; here each promise's sound half is all there is, and they pass."""
    from peft.tuners.lora.layer import LoraLayer

    with pytest.raises(ZeroDivisionError):
        scales.check_scale_layer_zero()
    kept = {}

    def scale(self, factor):
        kept.update(self.scaling)
        self.scaling["default"] *= factor

    monkeypatch.setattr(LoraLayer, "scale_layer", scale)
    monkeypatch.setattr(LoraLayer, "unscale_layer", lambda self, factor=None: self.scaling.update(kept))
    scales.check_scale_layer_zero()
    monkeypatch.setattr(LoraLayer, "unscale_layer", lambda self, factor=None: None)
    with pytest.raises(Wrong, match="scale_layer"):
        scales.check_scale_layer_zero()


def test_every_check_of_layers_passes_somewhere_and_fails_somewhere():
    known = read_xfails(shipped(), known_checks())
    for name in (check.__name__ for check in models.CHECKS):
        failing = {case.target for case in models.CASES if name in expected_for(case.target, known)}
        assert failing and len(failing) < len(models.CASES), name


def test_a_check_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="no check is called"):
        check_everything(only=["check_nothing"])


def run(*words):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["check", *words])
    return stopped.value.code


def test_one_method_shows_the_count_and_expects_what_is_known(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 12, "target_modules": ["q"]}))
    for target in ("peft:lora?use_rslora=true&r=8&lora_alpha=20", "adapter_config.json"):
        assert run(target, "--only", "check_unmerge_scaled", "--only", "check_merge_function", "--json", "out.json") == 0
        assert "2 of 2 checks ran: 1 passed, 1 xfailed" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["verdict"] == "holds"
    (tmp_path / "none.txt").write_text("")
    assert run("peft:lora", "--only", "check_unmerge_scaled", "--xfails", "none.txt") == 1
    assert run("peft:lroa") == 2 and run("peft:ia3") == 2 and run("peft:lora", "--alpha", "3") == 2
    assert "did you mean" in capsys.readouterr().err


def test_all_methods_in_one_call(tmp_path, capsys):
    out = tmp_path / "out.json"
    only = ("--only", "check_base_frozen", "--only", "check_scale_layer_zero")
    code = run("peft:all", *only, "--json", str(out), "--html", str(out.with_suffix(".html")))
    data = json.loads(out.read_text())
    statuses = {(row["target"], check["name"]): check["status"] for row in data["targets"] for check in row["checks"]}
    assert code == 1 and data["verdict"] == "does_not_hold"
    assert statuses["peft:lora@operations", "check_scale_layer_zero"] == "failed"
    assert statuses["peft:lora", "check_base_frozen"] == "passed" and statuses["peft:oft", "check_base_frozen"] == "passed"
    reasons = {row["target"]: row["not_judged"] for row in data["targets"] if row["not_judged"]}
    assert "not applicable" in reasons["peft:ia3"] and "task ids" in reasons["peft:poly"]
    shown = capsys.readouterr().out
    assert "checks ran on" in shown and "not judged" in shown
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert "DOES NOT HOLD" in page and "<h3>peft:lora@operations</h3>" in page[page.index("What failed") : page.index("Every target")]
    assert "rsverify check peft:all --only check_scale_layer_zero" in page and "task ids" in page
    listed = tmp_path / "known.txt"
    listed.write_text("peft:lora@operations::check_scale_layer_zero: divides by zero\n")
    assert run("peft:all", *only, "--xfails", str(listed), "--html", str(out.with_suffix(".html"))) == 0
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert "1 failed as listed" in page and "xfailed." not in page
    assert "HOLDS" in page and "What failed" not in page and "divides by zero" in page[page.index("<h2>Failed as listed") :]


def test_exit_codes_of_all():
    (row,) = check_everything(targets=["peft:lora@conv2d-dilated"])
    assert exit_code([row]) == 1
    (row,) = check_everything(targets=["peft:lora@conv2d"])
    assert exit_code([row]) == 0
