"""The scripts and workflows of CI: they parse, and the hosted ones call the same scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra dev")
ROOT = Path(__file__).parents[2]
SCRIPTS = ("run", "nightly", "release-check")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_parses_and_may_be_run(name):
    path = ROOT / ".ci" / name
    assert os.access(path, os.X_OK)
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("workflow", "script"), [("ci.yml", ".ci/run"), ("nightly.yml", ".ci/nightly")])
def test_a_hosted_workflow_calls_the_script_and_decides_nothing(workflow, script):
    data = yaml.safe_load((ROOT / ".github" / "workflows" / workflow).read_text(encoding="utf-8"))
    (job,) = data["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [script]


def test_every_hook_is_a_tool_of_the_extra_dev():
    hooks = [
        hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"] for hook in repo["hooks"]
    ]
    dev = " ".join(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]["dev"])
    tools = {"ruff": "ruff", "lint-imports": "import-linter", "basedpyright": "basedpyright", "python": ""}
    for hook in hooks:
        tool = hook["entry"].split()[0]
        assert tools[tool] in dev
        assert tool == "python" or shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def test_the_nightly_repeats_a_night_by_its_seed_and_runs_what_ci_leaves_out():
    text = (ROOT / ".ci" / "nightly").read_text(encoding="utf-8")
    assert "RSVERIFY_NIGHTLY_SEED" in text and "HYPOTHESIS_PROFILE=nightly" in text and "pytest -m slow" in text
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert "-m 'not slow'" in options["addopts"]
    for line in text.splitlines():  # scripts that are named without a test of whether they are there
        for word in line.split():
            if word.startswith("benchmarks/") and not line.startswith("for "):
                assert (ROOT / word).exists(), word
