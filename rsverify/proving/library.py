"""The lemmas in `proofs/`: found, loaded, put in reading order, and run with what they use."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path

from rsverify.errors import UnknownName
from rsverify.proving.checks import ProofError
from rsverify.proving.lemma import Lemma, LemmaResult, prove
from rsverify.stages import Progress, Stages

_PACKAGE = Path(__file__).parents[1]


def folder() -> Path:
    """Where the proofs are: inside the package once installed from a wheel, beside it in a checkout."""
    for place in (_PACKAGE / "_proofs", _PACKAGE.parent / "proofs"):
        if place.is_dir():
            return place
    raise ProofError(
        f"the folder of proofs is missing: neither {_PACKAGE / '_proofs'} nor {_PACKAGE.parent / 'proofs'} is there; reinstall rsverify"
    )


@cache
def lemmas() -> dict[str, Lemma]:
    """Every lemma by name, each after those that it uses.

    Raises: ProofError where a file holds no lemma, two lemmas share a name, a used lemma is missing, or uses go in a circle.
    """
    found: dict[str, Lemma] = {}
    for path in sorted(folder().glob("*.py")):
        lemma = load(path)
        if lemma.name in found:
            raise ProofError(f"two files of {folder()} hold a lemma named {lemma.name!r}")
        found[lemma.name] = lemma
    return _ordered(found)


def load(path: Path) -> Lemma:
    """The lemma of one file."""
    name = f"rsverify_proofs.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    lemma = getattr(module, "lemma", None)
    if not isinstance(lemma, Lemma):
        raise ProofError(f"{path.name} holds no `lemma = Lemma(...)`")
    if path.stem != lemma.name.replace("-", "_"):
        raise ProofError(f"{path.name} holds lemma {lemma.name!r}; expected the file {lemma.name.replace('-', '_')}.py")
    return lemma


def prove_all(name: str | None = None, *, progress: Progress | None = None) -> list[LemmaResult]:
    """Run one lemma with everything that it uses, or all of them, in reading order."""
    known = lemmas()
    if name is not None and name not in known:
        raise UnknownName("lemma", name, known)
    wanted = known if name is None else needed(name, known)
    stages = Stages(__name__, progress)
    results = []
    for lemma in known.values():
        if lemma.name in wanted:
            stages("run the lemmas", len(results), len(wanted))
            results.append(prove(lemma))
    return results


def needed(name: str, known: dict[str, Lemma]) -> set[str]:
    """A lemma and all that it leans on."""
    return {name}.union(*(needed(used, known) for used in known[name].uses))


def _ordered(found: dict[str, Lemma]) -> dict[str, Lemma]:
    done: dict[str, Lemma] = {}
    under_way: list[str] = []

    def visit(name: str, of: str) -> None:
        if name in done:
            return
        if name in under_way:
            raise ProofError(f"lemmas use each other in a circle: {' -> '.join([*under_way[under_way.index(name) :], name])}")
        if name not in found:
            raise ProofError(f"lemma {of!r} uses {name!r}, which no file holds")
        under_way.append(name)
        for used in found[name].uses:
            visit(used, name)
        under_way.pop()
        done[name] = found[name]

    for name in found:
        visit(name, name)
    return done
