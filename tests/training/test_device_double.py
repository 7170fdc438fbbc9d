"""The double of a device, in a process of its own: a second device changes what torch takes for the accelerator of the whole process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("double_cases.py")


@pytest.mark.training
def test_all_runs_whole_on_a_device_that_is_not_the_cpu():
    command = [sys.executable, "-m", "pytest", str(CASES), "-n", "0", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CASES.parents[2], timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in done.stdout or "100%" in done.stdout
