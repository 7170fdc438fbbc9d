"""What an import costs: the front door and the ground floor load nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "sympy", "scipy.stats", "matplotlib", "transformers", "peft", "jinja2", "hypothesis")


@pytest.mark.parametrize(
    "statement",
    [
        "import rsverify",
        "import rsverify.definitions, rsverify.records, rsverify.statistics.intervals, rsverify.statistics.streams",
        "import rsverify.definitions as d; d.registry.adapters(); d.rules(); d.optimizers(); d.as_rule('alpha/sqrt(r)').at([4, 8])",
        "import rsverify.verdict, rsverify.report",
    ],
)
def test_light_imports_stay_light(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_public_name_is_replaced_by_a_folder_of_its_name() -> None:
    """Importing a module binds its name on its package: a function of that name exported there would turn into the module."""
    code = """
import importlib, pkgutil, types
import rsverify
names = [m.name for m in pkgutil.walk_packages(rsverify.__path__, "rsverify.") if not m.name.endswith("__main__")]
for name in names:
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # an optional extra is absent
for package in ["rsverify", *names]:
    module = importlib.import_module(package)
    for public in getattr(module, "__all__", ()):
        if isinstance(getattr(module, public), types.ModuleType):
            print(f"{package}.{public}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
