"""Which check catches which mutant: `python -m rsverify.testing.matrix [FILE]` runs every check on all and writes docs/mutants.md."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rsverify.conformance import check_adapter
from rsverify.conformance.registry import checks
from rsverify.testing.mutants import Mutant, mutants
from rsverify.testing.mutants.cures import cures
from rsverify.testing.mutants.reference import SOUND

HEAD = """# Mutants and the checks that catch them

Written by `python -m rsverify.testing.matrix`; do not edit. Each mutant is a sound adapter with one thing done wrong, modelled on a bug of
that kind. "Changes" is the relative change of the pretrained base's logits when one of its projections carries the mutant instead of its
sound partner, in the use that shows it; "raises" where only the mutant raises or gives NaN. Sources are threads about a bug of the kind;
the adapters here are ours.

"Cured by" is the line of the sound implementation (`rsverify/testing/mutants/reference/`) that the mutant lacks, as declared in
`rsverify/testing/mutants/cures.py`; a test finds it there, word for word. Mutants that one line cures are one: where several lines would
do, the one that the most mutants share is named.
"""

COUNT = "{mutants} mutants of {causes} distinct causes, cured by {cures} distinct lines.\n"


@dataclass(frozen=True)
class Line:
    """One mutant in the document: how much it changes, and the checks that fail it."""

    name: str
    changes: float
    caught_by: tuple[str, ...]


def catches(mutant: Mutant) -> Line:
    """Run every check on a mutant."""
    results = check_adapter(mutant.wrong, on_fail="return")
    return Line(mutant.name, mutant.changed(), tuple(result.name for result in results if result.status == "failed"))


def document() -> str:
    """The whole document, from a run of every check on every mutant and every sound partner."""
    return render({name: catches(mutant) for name, mutant in mutants().items()})


def render(found: Mapping[str, Line]) -> str:
    """The document, from what was found of every mutant; the sound partners are run here."""
    parts = [HEAD, "\n", counted()]
    head = "| mutant | what is wrong | cured by | hidden by | source | changes | caught by |\n|---|---|---|---|---|---|---|\n"
    for family in dict.fromkeys(mutant.family for mutant in mutants().values()):
        parts.append(f"\n## {family.capitalize()}\n\n{head}")
        parts += [_row(mutant, found[name]) for name, mutant in mutants().items() if mutant.family == family]
    parts.append("\n## Checks\n\n| check | what it says | mutants caught |\n|---|---|---|\n")
    for name, check in checks().items():
        caught = [line.name for line in found.values() if name in line.caught_by]
        parts.append(f"| `{name}` | {_cell(check.doc)} | {len(caught)}: {_some(caught)} |\n")
    parts.append("\n## Sound partners\n\nNo check fails any of them.\n\n| adapter | passed | skipped | failed |\n|---|---|---|---|\n")
    for name, kit in SOUND.items():
        status = [result.status for result in check_adapter(kit.subject(), on_fail="return")]
        failed = len(status) - status.count("passed") - status.count("skipped")
        parts.append(f"| {name} | {status.count('passed')} | {status.count('skipped')} | {failed} |\n")
    return "".join(parts)


def counted() -> str:
    """How many mutants, distinct causes and distinct cures there are."""
    cure = cures()
    return COUNT.format(
        mutants=len(mutants()), causes=len({mutant.cause for mutant in mutants().values()}), cures=len({cure[name] for name in mutants()})
    )


def read(text: str) -> dict[str, Line]:
    """The lines of the mutants in a document, by name."""
    found = {}
    for line in text.partition("\n## Checks\n")[0].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 7 and cells[0].startswith("`"):
            changes = math.inf if cells[5] == "raises" else float(cells[5])
            caught = tuple(part.strip(" `") for part in cells[6].split(",") if part.strip())
            found[cells[0].strip("`")] = Line(cells[0].strip("`"), changes, caught)
    return found


def _row(mutant: Mutant, line: Line) -> str:
    changes = "raises" if math.isinf(line.changes) else f"{line.changes:.2g}"
    names = ", ".join(f"`{name}`" for name in line.caught_by)
    cure = cures()[mutant.name]
    cured = f"{cure.place}: `{_cell(cure.line)}`"
    cells = (f"`{mutant.name}`", _cell(mutant.cause), cured, _cell(mutant.hidden_by), _cell(mutant.source), changes, names)
    return f"| {' | '.join(cells)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(f"`{name}`" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/mutants.md")
    target.write_text(document(), encoding="utf-8")
    lines = read(target.read_text(encoding="utf-8"))
    missed = [name for name, line in lines.items() if not line.caught_by]
    idle = sorted(set(checks()) - {check for line in lines.values() for check in line.caught_by})
    print(f"{counted().strip()} {len(checks())} checks; not caught: {missed or 'none'}; checks that catch nothing: {idle or 'none'}")
