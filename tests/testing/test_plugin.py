"""The pytest plugin, run inside pytest: light to load, options that act and refuse, a summary that says what was said."""

from __future__ import annotations

import subprocess
import sys

import hypothesis  # noqa: F401  what an inner run imports first is taken out of sys.modules afterwards, and torch cannot be imported twice
import pytest
import sympy  # noqa: F401
import torch  # noqa: F401

import rsverify.conformance.runner
import rsverify.montecarlo
import rsverify.symbolic  # noqa: F401

pytest_plugins = ["pytester"]

HEAVY = ("torch", "sympy", "hypothesis", "scipy", "matplotlib", "rsverify.conformance", "rsverify.testing.strategies")

CHECKS = """
import rsverify as rv
from torch import nn

class Adapted(nn.Module):
    def __init__(self, rank, base, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(base.weight.new_ones(rank, base.in_features))
        self.B = nn.Parameter(base.weight.new_full((base.out_features, rank), START))
        self.gamma = alpha / rank

    def forward(self, x):
        return self.base(x) + self.gamma * x @ self.A.T @ self.B.T

@rv.testing.parametrize_with_checks([Adapted])
def test_adapter(subject, check):
    check(subject)
"""
SOUND, WRONG = CHECKS.replace("START", "0.0"), CHECKS.replace("START", "1.0")
TWO = ("-k", "init_identity or build_module", "-p", "no:xdist")

STATEMENTS = """
import rsverify as rv
from rsverify.testing.assertions import assert_rank_stable

def test_stable():
    assert_rank_stable("lora", "alpha/sqrt(r)", quantity="update", optimizer="sgd", ranks=(4, 16, 64, 256))

def test_collapses():
    assert_rank_stable("lora", "alpha/r", quantity="update", optimizer="sgd", ranks=(4, 16, 64, 256))

def test_poor():
    assert_rank_stable("lora", "alpha/sqrt(r)", quantity="update", optimizer="sgd", budget=rv.Budget(draws=170))
"""


def test_loading_it_loads_nothing_heavy() -> None:
    """In a process of its own, through the entry point, as pytest itself loads it."""
    code = f"""
import sys
from importlib.metadata import entry_points
(point,) = [p for p in entry_points(group="pytest11") if p.name == "rsverify"]
before = set(sys.modules)
plugin = point.load()
assert plugin.__name__ == "rsverify.pytest_plugin"
print(*sorted(name for name in {HEAVY} if name in sys.modules))
print(len(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, _ = done.stdout.split("\n", 1)
    assert names.split() == []


def test_a_run_without_adapters_stays_light_and_silent(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(f"""
import sys
def test_mine():
    assert not [name for name in {HEAVY} if name in sys.modules and name != "hypothesis"]
""")
    result = pytester.runpytest_subprocess("-p", "no:xdist", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*statements about adapters*")


def test_every_check_is_a_test_and_the_summary_counts_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SOUND)
    result = pytester.runpytest(*TWO)
    result.assert_outcomes(passed=2, deselected=len(_checks()) - 2)
    result.stdout.fnmatch_lines(["*2 statements about adapters: 2 confirmed; by chance*"])


def test_a_failing_check_says_what_is_wrong(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(WRONG)
    result = pytester.runpytest(*TWO)
    result.assert_outcomes(passed=1, failed=1, deselected=len(_checks()) - 2)
    result.stdout.fnmatch_lines(["*Adapted: check_init_identity: at init*", "*refuted: Adapted: check_init_identity*"])


def test_expected_failures_come_from_a_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(WRONG)
    pytester.makefile(".txt", xfails="# known\nAdapted::check_init_identity: starts at one, see the paper\n")
    result = pytester.runpytest(*TWO, "--rsverify-xfails", "xfails.txt", "-rx")
    result.assert_outcomes(passed=1, xfailed=1, deselected=len(_checks()) - 2)
    result.stdout.fnmatch_lines(["*starts at one, see the paper*"])


def test_an_expected_failure_that_passes_or_matches_nothing_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SOUND)
    pytester.makefile(".txt", xfails="check_init_identity: it was wrong once\nMissing::check_build_module: other\n")
    result = pytester.runpytest(*TWO, "--rsverify-xfails", "xfails.txt")
    result.assert_outcomes(passed=1, xpassed=1, deselected=len(_checks()) - 2)
    result.stdout.fnmatch_lines(["*expected to fail, passes: *check_init_identity*strike it*", "*Missing::check_build_module matches no*"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("check_init_identiti: typo\n", "did you mean 'check_init_identity'"),
        ("check_init_identity\n", "line 1: 'check_init_identity'; expected"),
        ("check_init_identity:  \n", "a failure is expected for a reason"),
        ("::check_init_identity: x\n", "expected '[[]target::[]]check_name: reason'"),
        ("check_init_identity: a\n\ncheck_init_identity: b\n", "line 3*twice"),
        (None, "cannot be read (No such file"),
    ],
)
def test_a_file_that_cannot_be_meant_stops_the_run_before_any_test(pytester: pytest.Pytester, text, said) -> None:
    pytester.makepyfile("def test_mine(): raise SystemError('ran')")
    if text is not None:
        pytester.makefile(".txt", xfails=text)
    result = pytester.runpytest("-p", "no:xdist", "--rsverify-xfails", "xfails.txt")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{said}*"])
    result.stdout.no_fnmatch_line("*ran*")


def test_the_examples_of_hypothesis_are_bounded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
from hypothesis import given, settings
from rsverify.testing import strategies
seen, own = [], []

@given(strategies.ranks(1, 10**6))
def test_default(r):
    seen.append(r)

@settings(max_examples=9)
@given(strategies.ranks(1, 10**6))
def test_own(r):
    own.append(r)

def test_counts():
    assert (len(seen), len(own)) == (7, 9)
""")
    pytester.runpytest("-p", "no:xdist", "--rsverify-max-examples", "7").assert_outcomes(passed=3)
    from hypothesis import settings

    assert settings().max_examples != 7


@pytest.mark.statistical
def test_statements_are_counted_in_three_values_at_the_budget_of_the_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(STATEMENTS)
    result = pytester.runpytest("-p", "no:xdist", "--rsverify-error-budget", "1e-3")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "3 statements about adapters: 1 confirmed, 1 refuted, 1 inconclusive; by chance*at most 0.003",
            "  refuted: update*",
            "  inconclusive: *",
        ]
    )
    from rsverify.testing.statements import ERROR_BUDGET, listeners

    assert ERROR_BUDGET.get() == 1e-6 or listeners  # the outer run may have its own


@pytest.mark.statistical
def test_workers_tell_their_statements_too(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(STATEMENTS)
    result = pytester.runpytest_subprocess("-n", "1", "-k", "stable or collapses")
    result.stdout.fnmatch_lines(["2 statements about adapters: 1 confirmed, 1 refuted*", "  refuted: update*"])


@pytest.mark.parametrize(
    ("option", "value"),
    [("max-examples", "0"), ("max-examples", "2.5"), ("error-budget", "0"), ("error-budget", "1.5"), ("error-budget", "none")],
)
def test_options_that_cannot_be_meant_are_refused(pytester: pytest.Pytester, option, value) -> None:
    result = pytester.runpytest("-p", "no:xdist", f"--rsverify-{option}", value)
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_the_decorator_refuses_what_cannot_be_meant() -> None:
    import rsverify as rv

    mark = rv.testing.parametrize_with_checks
    with pytest.raises(rv.RsverifyError, match="expected a list"):
        mark("lora")
    with pytest.raises(rv.RsverifyError, match="did you mean 'lora'"):
        mark(["laro"])
    with pytest.raises(rv.RsverifyError, match="did you mean 'check_init_identity'"):
        mark(["lora"], expected_failed_checks={"check_init_identiti": "typo"})
    cases = mark(["lora", "lora"], expected_failed_checks=lambda subject: {"check_init_identity": "shown"}).args[1]
    assert len(cases) == 2 * len(_checks()) and len({case.id for case in cases}) == len(cases)
    assert sum(any(m.name == "xfail" for m in case.marks) for case in cases) == 2


def _checks():
    from rsverify.conformance.registry import checks

    return checks()


TWO_AXES = WRONG.replace(
    "@rv.testing",
    """
class Right(Adapted):
    def __init__(self, rank, base, alpha):
        super().__init__(rank, base, alpha)
        nn.init.zeros_(self.B)

import pytest

@pytest.mark.parametrize("other", [Right, Adapted])
@rv.testing""",
).replace("def test_adapter(subject, check):\n    check(subject)", "def test_adapter(subject, check, other):\n    check(other)")


def test_a_check_judges_the_subject_that_it_is_given(pytester: pytest.Pytester) -> None:
    """A second axis of parameters, or a fixture: the bench of the first subject must not answer for the next."""
    pytester.makepyfile(TWO_AXES)
    result = pytester.runpytest(*TWO)
    result.assert_outcomes(passed=3, failed=1, deselected=2 * (len(_checks()) - 2))
    result.stdout.fnmatch_lines(["*FAILED*Adapted-check_init_identity*"])


def test_expected_failures_are_matched_in_the_workers_of_xdist_and_follow_xfail_strict(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(WRONG)
    pytester.makefile(".txt", xfails="Adap*::check_init_*: starts at one\ncheck_build_module: it was wrong once\nNo::check_rank_used: no\n")
    result = pytester.runpytest_subprocess("-k", TWO[1], "-n", "1", "--rsverify-xfails", "xfails.txt", "-o", "xfail_strict=true")
    result.assert_outcomes(xfailed=1, failed=1)
    result.stdout.fnmatch_lines(["*No::check_rank_used matches no*"])
    result.stdout.no_fnmatch_line("*check_init_* matches no*")


def test_without_the_plugin_strict_markers_collect_and_with_it_families_are_markers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SOUND.replace("([Adapted])", "([Adapted], only=['check_init_*', 'check_build_module'], seed=3)"))
    result = pytester.runpytest("-p", "no:xdist", "-p", "no:rsverify", "--strict-markers", "-W", "error")
    result.assert_outcomes(passed=2)
    pytester.runpytest("-p", "no:xdist", "-m", "rsverify_scaling").assert_outcomes(deselected=2)
    pytester.runpytest("-p", "no:xdist", "-m", "rsverify_check and rsverify_structure").assert_outcomes(passed=2)
