"""The command line: a file per verb, loaded when it is called."""

from __future__ import annotations

import sys
from typing import Any

from rsverify.cli.ending import DEBUG, USAGE, complain, ended_by

VERBS = {
    "verify": "Say whether theory, simulation and a real transformer agree on how an adapter behaves as its rank grows.",
    "derive": "Derive what must happen: the magnitude as a formula, and its power of the rank.",
    "estimate": "Simulate what does happen: magnitudes with intervals at each rank, and their power of the rank.",
    "train": "Train every rank, rule, learning rate and draw in one pass; started again, it goes on where it was.",
    "solve": "Find the scaling rule that keeps a quantity stable as the rank grows, and the learning rate that other rules need.",
    "transfer": "Give alpha and learning rate at another rank, with the reason.",
    "budget": "Say the highest LoRA rank whose training step fits into a memory, with the bill, from a model's config alone.",
    "atlas": "Say for each adapter, init and optimizer which rule gamma(r) is stable, and whether the shipped one and 1/sqrt(r) are.",
    "reproduce": "Train the source article's experiments on a small transformer and say of each claim whether it holds here.",
    "check": "Say whether an adapter implementation is sound: structure, merging, scaling, persistence, stability.",
    "parity": "Say whether a serving stack applies the scale that an adapter was trained with, and name the wrong rule if not.",
    "prove": "Run the proofs: every step by its checker, with status and scope; a lemma is run with all that it uses.",
    "report": "Show a finished run again and rewrite its report.html from its results.json.",
}
"""Every verb with the first line of its help, in the order of the list, written here so that the list of verbs loads none of them."""

HELP = """How does a low-rank adapter behave as its rank grows? Derived, simulated and trained.

Begin with `rsverify verify --quick` (a few seconds). `rsverify VERB --help` shows each verb's options with examples.

Exit code 0 = holds, 1 = does not hold, 2 = bad usage or input, 3 = inconclusive, 4 = a fault of rsverify (never a verdict),
130 = interrupted. Every verb takes --debug: the traceback of what ended it."""


def main(tokens: list[str] | None = None) -> None:
    """Run a verb and exit with its code: that of the verdict, or that of what ended it without one (`cli.ending`)."""
    import cyclopts

    import rsverify

    app = cyclopts.App(
        name="rsverify",
        help=HELP,
        version=rsverify.__version__,
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,
        default_parameter=cyclopts.Parameter(negative=(), show_default=_default_text),
    )
    words = sys.argv[1:] if tokens is None else tokens
    asked = [word for word in words if word != DEBUG]
    called = next(iter(asked), None)
    for place, (verb, line) in enumerate(VERBS.items()):
        # The line stands for the verb in the list; the verb called is loaded and speaks for itself.
        app.command(f"rsverify.cli.{verb}:{verb}", name=verb, sort_key=place, **({} if verb == called else {"help": line}))
    try:
        code: Any = app(asked, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        complain(_missing(error, words) if isinstance(error, cyclopts.MissingArgumentError) else str(error))
        code = USAGE
    except (Exception, KeyboardInterrupt) as error:
        code = ended_by(error, words)
    sys.exit(code if isinstance(code, int) else 0)


def _default_text(value: Any) -> str | None:
    """A default as a user would type it; nothing where there is none."""
    if value is None or value is False or value == ():
        return None
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _missing(error: Any, words: list[str]) -> str:
    """What a verb was not given, and where an example of it stands."""
    verb = " ".join(error.command_chain or ())
    option = next((word for word in words if word.startswith("-") and word in error.argument.names), None)
    if option is not None:
        return f"{option} needs a value; `rsverify {verb} --help` shows examples"
    place = error.argument.index is not None
    name = error.argument.name.lstrip("-").replace("-", "_").upper() if place else error.argument.name
    return f"{verb} needs {name}; `rsverify {verb} --help` shows examples"
