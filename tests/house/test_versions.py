"""The floors that are promised are the versions that CI installs in its second environment."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APART = {"sympy": "1.13.3", "torch": "2.13.0"}
"""Pins above the floor: what torch 2.13 asks for, and the oldest torch of which a CPU wheel was to be had."""


@pytest.fixture
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def floors(lines: list[str]) -> dict[str, str]:
    return dict(re.fullmatch(r"([a-z0-9-]+)>=([0-9.]+)", line).groups() for line in lines if not line.startswith("rsverify"))


def test_every_floor_is_a_pin_of_the_oldest_environment(project):
    promised = floors(project["dependencies"]) | floors(project["optional-dependencies"]["testing"])
    assert set(pins()) == set(promised)
    for name, pin in pins().items():
        if name in APART:
            assert pin == APART[name]
        else:
            assert (pin + ".").startswith(promised[name] + ".")


def test_ci_tries_the_oldest_versions_and_the_floor_of_sympy(project):
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "-c constraints-oldest.txt" in run
    assert f"sympy=={floors(project['dependencies'])['sympy']}" in run


def test_the_version_is_one(project):
    import rsverify

    assert rsverify.__version__ == project["version"]


def test_the_pythons_promised_are_those_of_the_page(project):
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    for line in project["classifiers"]:
        if version := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line):
            assert version[1] in page
