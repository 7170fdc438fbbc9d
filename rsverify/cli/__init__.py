"""The command line: a file per verb, loaded when it is called."""

from __future__ import annotations

import sys
from typing import Any

from rsverify.errors import RsverifyError

_VERBS = (
    "verify",
    "derive",
    "estimate",
    "train",
    "solve",
    "transfer",
    "budget",
    "reproduce",
    "check",
    "parity",
    "prove",
    "report",
    "atlas",
)


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
    called = next(iter(sys.argv[1:] if tokens is None else tokens), None)
    for verb, line in VERBS.items():
        # The line stands for the verb in the list; the verb called is loaded and speaks for itself.
        app.command(f"rsverify.cli.{verb}:{verb}", name=verb, **({} if verb == called else {"help": line}))
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
