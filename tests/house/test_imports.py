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
        "import rsverify.definitions as d; d.adapters(); d.rules(); d.optimizers(); d.as_rule('alpha/sqrt(r)').at([4, 8])",
        "import rsverify.verdict, rsverify.report",
    ],
)
def test_light_imports_stay_light(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
