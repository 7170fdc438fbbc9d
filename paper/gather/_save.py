"""How a gatherer leaves its numbers: with the settings, the versions and the hash of every room that they depend on."""

from __future__ import annotations

import json
from typing import Any

from paper.sources import ROOT, SOURCES
from rsverify.records import to_json
from rsverify.report.provenance import provenance
from rsverify.report.rooms import room_hashes


def save(name: str, data: dict[str, Any], *, seed: int = 0, **settings: Any) -> None:
    """Write one file of evidence."""
    source = SOURCES[name]
    made = provenance(seed=seed, hashes=room_hashes(source.rooms), settings=settings)
    text = json.dumps({**to_json(data), "provenance": to_json(made)}, indent=1, allow_nan=False)
    (ROOT / source.path).write_text(text + "\n", encoding="utf-8")
    print(f"written: {source.path}")
