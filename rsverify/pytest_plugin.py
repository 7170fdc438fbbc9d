"""pytest plugin `rsverify`: options for checks and statements about adapters, and a summary of what they said.

Loading it costs nothing: neither torch, sympy nor hypothesis is imported before an option or a test asks for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rsverify.records.answers import CHECK_FAMILIES
from rsverify.testing import statements

if TYPE_CHECKING:
    from rsverify.conformance.xfails import Expected

MARK = "rsverify_check"
OLDEST = (9, 2)
"""Of pytest, as our own metadata have it."""
_PROPERTY = "rsverify"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rsverify", "checks of low-rank adapters")
    group.addoption(
        "--rsverify-xfails", metavar="FILE",
        help="checks of parametrize_with_checks that are expected to fail, one a line: '[target::]check_name: reason'",
    )  # fmt: skip
    group.addoption(
        "--rsverify-max-examples", metavar="N", type=_count, help="examples of each Hypothesis test that does not set its own number"
    )
    group.addoption(
        "--rsverify-error-budget", metavar="RATE", type=_rate,
        help="rate of false failures by chance of one assertion, and of all checks of one subject (default 1e-6)",
    )  # fmt: skip


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{text!r} is not a whole number from 1")
    return int(text)


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError(f"{text!r} is not a rate between 0 and 1")
    return value


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARK}: a check of an adapter, made by parametrize_with_checks")
    for family in CHECK_FAMILIES:
        config.addinivalue_line("markers", f"rsverify_{family}: such a check of the family {family}")
    config.pluginmanager.register(Session(config), "rsverify-session")


def pytest_report_header() -> list[str]:
    if _version(pytest.__version__) >= OLDEST:
        return []
    oldest = ".".join(map(str, OLDEST))
    return [f"rsverify: pytest {pytest.__version__} is older than {oldest}, the oldest with which its plugin was tried"]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


class Session:
    """What one run of pytest asked for and heard."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.expected: list[Expected] = _read_xfails(config.getoption("--rsverify-xfails"))
        self.matched: set[str] = set()
        """Texts of the expected failures that a collected check fits, here or in a worker of xdist."""
        self.collected = 0
        self.answers: list[tuple[str, str, float]] = []
        self.of_this_test: list[statements.Statement] = []
        self.unexpected_passes: list[str] = []
        self.undo: list[Any] = []
        rate = config.getoption("--rsverify-error-budget")
        if rate is not None:
            token = statements.ERROR_BUDGET.set(rate)
            self.undo.append(lambda: statements.ERROR_BUDGET.reset(token))
        examples = config.getoption("--rsverify-max-examples")
        if examples is not None:
            self.undo.append(_limit_examples(examples))
        # A run inside a run (pytester) hears its own statements only.
        outer = list(statements.listeners)
        statements.listeners[:] = [self.of_this_test.append]
        self.undo.append(lambda: statements.listeners.__setitem__(slice(None), outer))

    def pytest_unconfigure(self) -> None:
        while self.undo:
            self.undo.pop()()

    @pytest.hookimpl(tryfirst=True)  # before anything is deselected: what matches nothing here is misspelt
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            case: Any = getattr(getattr(item, "callspec", None), "params", {}).get("check")
            if not getattr(case, "is_rsverify_check", False):
                continue
            item.add_marker(MARK)
            item.add_marker(f"rsverify_{case.family}")
            self.collected += 1
            for entry in self.expected:
                if entry.fits(case.subject_name, case.name):
                    self.matched.add(entry.text)
                    item.add_marker(pytest.mark.xfail(reason=entry.reason))

    def pytest_sessionfinish(self) -> None:
        output = getattr(self.config, "workeroutput", None)
        if output is not None:  # in a worker of xdist: the controller collects nothing itself
            output["rsverify"] = [sorted(self.matched), self.collected]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        matched, collected = getattr(node, "workeroutput", {}).get("rsverify", ([], 0))
        self.matched.update(matched)
        self.collected = max(self.collected, collected)

    # The old kind of wrapper: pluggy before 1.2 knows no other, and would end every run.
    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, None]:
        self.of_this_test.clear()
        yield
        if self.of_this_test:
            item.user_properties.append((_PROPERTY, [[s.text, s.answer, s.rate] for s in self.of_this_test]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        for name, value in report.user_properties:
            if name == _PROPERTY and isinstance(value, list):
                self.answers += [(text, answer, rate) for text, answer, rate in value]
                if report.passed and hasattr(report, "wasxfail"):
                    self.unexpected_passes.append(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        unmatched = [entry for entry in self.expected if entry.text not in self.matched]
        if not self.answers and not (unmatched and self.collected):
            return
        terminalreporter.section("rsverify")
        count = Counter(answer for _, answer, _ in self.answers)
        answers = ", ".join(f"{count[answer]} {answer}" for answer in ("confirmed", "refuted", "inconclusive") if count[answer])
        rate = sum(rate for _, _, rate in self.answers)
        chance = f"; by chance, a false failure among them at a rate of at most {rate:.2g}" if rate else ""
        terminalreporter.line(f"{len(self.answers)} statements about adapters: {answers or 'none'}{chance}")
        for text, answer, _ in self.answers:
            if answer != "confirmed":
                terminalreporter.line(f"  {answer}: {text}")
        for nodeid in self.unexpected_passes:
            terminalreporter.line(f"  expected to fail, passes: {nodeid}; strike it from the expected failures")
        for entry in unmatched:
            terminalreporter.line(f"  expected failure {entry.text} matches no collected check: is the subject's name right?")


def _read_xfails(path: str | None) -> list[Expected]:
    if path is None:
        return []
    from rsverify.conformance.xfails import read_xfails
    from rsverify.errors import RsverifyError

    try:
        return read_xfails(Path(path))
    except RsverifyError as error:
        raise pytest.UsageError(str(error)) from None


def _limit_examples(number: int) -> Any:
    """Make `number` the default of Hypothesis; returns what puts the old default back."""
    try:
        from hypothesis import settings
    except ImportError:
        raise pytest.UsageError("--rsverify-max-examples needs hypothesis: pip install 'rsverify[testing]'") from None

    before = settings()
    settings.register_profile("rsverify", parent=before, max_examples=number)
    settings.load_profile("rsverify")

    def restore() -> None:
        settings.register_profile("rsverify-before", parent=before)
        settings.load_profile("rsverify-before")

    return restore
