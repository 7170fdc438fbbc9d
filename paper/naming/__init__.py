"""What the paper may say: every number, word of a verdict and table by name, from the evidence. One file for each kind of evidence."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from paper.sources import ROOT, SOURCES
from paper.sources import load as load_source

Load = Callable[[str], dict[str, Any]]


@dataclass
class Names:
    """What one file of `naming/` offers.

    Args: `texts` are numbers as they are written; `words` the answers that the text branches on; `tables` rows of cells.
    """

    texts: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    tables: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, other: Names) -> None:
        """Take in another file's names; each is given once."""
        for mine, theirs in ((self.texts, other.texts), (self.words, other.words), (self.tables, other.tables)):
            if twice := set(mine) & set(theirs):
                raise ValueError(f"named twice: {sorted(twice)}")
            mine.update(theirs)

    def to_dict(self) -> dict[str, Any]:
        return {"texts": self.texts, "words": self.words, "tables": self.tables}


def load(name: str) -> dict[str, Any]:
    """A file of evidence that `paper/sources.py` declares; anything else is no source of numbers."""
    return load_source(SOURCES[name])


def all_names(read: Load = load) -> Names:
    """Every name that the paper may use."""
    found = Names()
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if module.name != "shown":
            found.add(importlib.import_module(f"{__name__}.{module.name}").names(read))
    return found


def as_json(names: Names) -> str:
    """What the text reads."""
    return json.dumps(names.to_dict(), indent=1, ensure_ascii=False) + "\n"


__all__ = ["ROOT", "Names", "all_names", "as_json", "load"]
