"""The lemmas in `proofs/`: found, loaded, put in reading order, and run with what they use."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rsverify.errors import UnknownName
from rsverify.proving.checks import ProofError
from rsverify.proving.lemma import Lemma, LemmaResult, exit_code, lines, prove
from rsverify.proving.taken import Taken
from rsverify.stages import Progress, Stages

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class _Loading:
    """A file under way: its lemma's name, the lemmas it has taken formulas from, the formulas of theirs to change, and who asked for it."""

    name: str
    changed: Mapping[tuple[str, str], Any]
    asked_by: _Loading | None
    taken_from: set[str] = field(default_factory=set)

    def chain(self) -> list[str]:
        return [*(self.asked_by.chain() if self.asked_by else []), self.name]


_LOADING: ContextVar[_Loading | None] = ContextVar("the proof being loaded", default=None)


def folder() -> Path:
    """Where the proofs are: inside the package once installed from a wheel, beside it in a checkout."""
    for place in (_PACKAGE / "_proofs", _PACKAGE.parent / "proofs"):
        if place.is_dir():
            return place
    raise ProofError(
        f"the folder of proofs is missing: neither {_PACKAGE / '_proofs'} nor {_PACKAGE.parent / 'proofs'} is there; reinstall rsverify"
    )


def _path(name: str) -> Path:
    return folder() / f"{name.replace('-', '_')}.py"


def taken(name: str) -> Taken:
    """The formulas of another lemma, for the file of a proof to take: `channel = taken("channel-moments")`.

    Raises: ProofError where no file holds the lemma, or it leans on the one that asks.
    """
    under_way = _LOADING.get()
    if under_way is not None:
        under_way.taken_from.add(name)
        if name in (chain := under_way.chain()):
            raise ProofError(f"lemmas use each other in a circle: {' -> '.join([*chain[chain.index(name) :], name])}")
    path = _path(name)
    if not path.is_file():
        raise ProofError(f"a lemma takes formulas from {name!r}, which no file holds")
    changed = under_way.changed if under_way else {}
    return Taken(load(path), {step: formula for (lemma, step), formula in changed.items() if lemma == name})


@cache
def lemmas() -> dict[str, Lemma]:
    """Every lemma by name, each after those that it uses.

    Raises: ProofError where a file holds no lemma, two lemmas share a name, a used lemma is missing, or uses go in a circle.
    """
    load.cache_clear()
    by_name: dict[str, Lemma] = {}
    for path in sorted(folder().glob("*.py")):
        lemma = load(path)
        if lemma.name in by_name:
            raise ProofError(f"two files of {folder()} hold a lemma named {lemma.name!r}")
        by_name[lemma.name] = lemma
    return _ordered(by_name)


@cache
def load(path: Path) -> Lemma:
    """The lemma of one file."""
    return _executed(path, f"rsverify_proofs.{path.stem}", {})


def reloaded(name: str, changed: Mapping[tuple[str, str], Any]) -> Lemma:
    """A lemma as it is where formulas that it takes, by (lemma, step), are others: a corrupted one must turn it red."""
    path = _path(name)
    return _executed(path, f"rsverify_proofs_changed.{path.stem}", changed)


def _executed(path: Path, module_name: str, changed: Mapping[tuple[str, str], Any]) -> Lemma:
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    with _under_way(path.stem.replace("_", "-"), changed) as loading:
        spec.loader.exec_module(module)
    lemma = getattr(module, "lemma", None)
    if not isinstance(lemma, Lemma):
        raise ProofError(f"{path.name} holds no `lemma = Lemma(...)`")
    if path.stem != lemma.name.replace("-", "_"):
        raise ProofError(f"{path.name} holds lemma {lemma.name!r}; expected the file {lemma.name.replace('-', '_')}.py")
    if set(lemma.uses) != loading.taken_from:
        took = ", ".join(sorted(loading.taken_from)) or "none"
        raise ProofError(f"lemma {lemma.name!r} uses {', '.join(lemma.uses) or 'none'} and takes formulas from {took}: these must agree")
    return lemma


@contextmanager
def _under_way(name: str, changed: Mapping[tuple[str, str], Any]) -> Iterator[_Loading]:
    loading = _Loading(name, changed, _LOADING.get())
    token = _LOADING.set(loading)
    try:
        yield loading
    finally:
        _LOADING.reset(token)


def prove_all(name: str | None = None, *, progress: Progress | None = None) -> list[LemmaResult]:
    """Run one lemma with everything that it uses, or all of them, in reading order."""
    known = lemmas()
    if name is not None and name not in known:
        raise UnknownName("lemma", name, known)
    wanted = set(known) if name is None else needed(name, known)
    return list(_proved(known, wanted, Stages(__name__, progress)).values())


def prove_used(lemma: Lemma) -> dict[str, LemmaResult]:
    """Run everything that a lemma uses."""
    known: dict[str, Lemma] = {}

    def collect(names: tuple[str, ...]) -> None:
        for name in names:
            other = load(_path(name))
            collect(other.uses)
            known.setdefault(name, other)

    collect(lemma.uses)
    return _proved(known, set(known))


def needed(name: str, known: Mapping[str, Lemma]) -> set[str]:
    """A lemma and all that it leans on."""
    return {name}.union(*(needed(used, known) for used in known[name].uses))


def _proved(known: Mapping[str, Lemma], wanted: set[str], stages: Stages | None = None) -> dict[str, LemmaResult]:
    results: dict[str, LemmaResult] = {}
    for name, lemma in known.items():
        if name in wanted:
            if stages is not None:
                stages("run the lemmas", len(results), len(wanted))
            results[name] = prove(lemma, results)
    return results


def _ordered(known: Mapping[str, Lemma]) -> dict[str, Lemma]:
    done: dict[str, Lemma] = {}

    def visit(name: str) -> None:
        for used in known[name].uses:
            if used not in done:
                visit(used)
        done.setdefault(name, known[name])

    for name in known:
        visit(name)
    return done


def run_alone(lemma: Lemma) -> None:
    """What a proof's file does when it is executed: print the lemma; exit with 0 where it holds, 1 where not, 3 where a step is open.

    What it uses is run, too: a lemma holds no better than what it leans on.
    """
    result = prove(lemma, prove_used(lemma))
    print(*lines(result), sep="\n")
    sys.exit(exit_code([result]))
