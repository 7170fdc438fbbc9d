"""The command line: a file per verb, loaded when it is called."""

from __future__ import annotations

import sys
from typing import Any

from rsverify.errors import RsverifyError

_VERBS = ("verify", "derive", "estimate", "train", "solve", "transfer", "budget", "prove", "report", "check", "parity")


def main(tokens: list[str] | None = None) -> None:
    """Run a verb and exit: 0 = holds, 1 = does not hold, 2 = bad usage or input, 3 = inconclusive."""
    import cyclopts

    import rsverify

    app = cyclopts.App(
        name="rsverify",
        help="How does a low-rank adapter behave as its rank grows? Derived, simulated and trained.",
        version=rsverify.__version__,
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,
    )
    for verb in _VERBS:
        app.command(f"rsverify.cli.{verb}:{verb}", name=verb)
    try:
        code: Any = app(tokens, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        _complain(str(error))
        code = 2
    except RsverifyError as error:
        _complain(str(error))
        code = 2
    except KeyboardInterrupt:
        _complain("interrupted; what was finished is kept")
        code = 130
    except BrokenPipeError:
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    print(f"rsverify: {message}", file=sys.stderr)
