"""A crash is not a verdict: whatever ends a command without an answer has its own exit code, and says so in words."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

import rsverify.cli.derive as verb
from rsverify import cli
from rsverify.errors import InputError


def ends(monkeypatch, capsys, error, *options):
    """Exit code and stderr of a command whose work raises."""

    def stop(*_, **__):
        raise error

    monkeypatch.setattr(verb, "refuse_unwritable", stop)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["derive", "lora", "--rule", "alpha/r", *options])
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("division by zero"), KeyError("x"), RuntimeError("\x1b[2J" + "long " * 500), OSError(5, "io")]
)
def test_a_crash_is_code_4_in_three_lines(monkeypatch, capsys, error):
    code, shown = ends(monkeypatch, capsys, error)
    assert code == 4
    lines = shown.splitlines()
    assert len(lines) == 3 and all(line.startswith("rsverify: ") and line.isprintable() and len(line) < 500 for line in lines)
    assert "derive stopped" in lines[0] and type(error).__name__ in lines[0]
    assert "no verdict" in lines[1] and "--debug" in lines[2] and "rsverify derive lora --rule alpha/r --debug" in lines[2]


def test_the_recursion_limit_is_told_in_words(monkeypatch, capsys):
    code, shown = ends(monkeypatch, capsys, RecursionError("maximum recursion depth exceeded"))
    assert code == 4 and "the recursion limit was reached" in shown


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory"),
        (np._core._exceptions._ArrayMemoryError((10**9, 10**9), np.dtype(float)), "out of memory"),
        (BrokenProcessPool("a child process terminated abruptly"), "worker process was killed"),
        (InputError("rule is wrong"), "rule is wrong"),
    ],
)
def test_what_the_machine_or_the_input_lacks_is_code_2(monkeypatch, capsys, error, words):
    code, shown = ends(monkeypatch, capsys, error)
    assert code == 2 and words in shown and len(shown.splitlines()) == 1


def test_interrupted_is_130(monkeypatch, capsys):
    code, shown = ends(monkeypatch, capsys, KeyboardInterrupt())
    assert code == 130 and "kept" in shown


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), InputError("y")])
def test_debug_shows_the_traceback(monkeypatch, capsys, error):
    _, shown = ends(monkeypatch, capsys, error, "--debug")
    assert "Traceback" in shown and "def stop" not in shown and type(error).__name__ in shown
