"""What an atlas was made of, as one short text: a page whose text differs from the present one is stale."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import as_optimizer
from rsverify.studies.atlas import cells
from rsverify.studies.atlas.libraries import BLACK_BOXES
from rsverify.studies.atlas.variants import Variant, built_in


def fingerprint() -> str:
    """Hash of every declaration, size, rule and setting that decides the numbers of the full atlas.

    Not of the engines: what they say of these declarations is what the other tests are about.
    """
    made = {
        "variants": [_row(variant) for _, variant in sorted(built_in().items())],
        "layers": {name: asdict(box) for name, box in sorted(BLACK_BOXES.items())},
        "optimizers": {name: dict(as_optimizer(name).defaults) for name in ("sgd", "adamw")},
        "settings": [cells.LEARNING_RATE, cells.PRECISION, cells.BETWEEN, cells.FRESH_DRAWS, cells.WORK, cells.MODULE_DRAWS],
    }
    text = json.dumps(made, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _row(variant: Variant) -> list[Any]:
    declared = variant.declared
    expression = declared.expression if isinstance(declared, Adapter) else declared.core.expression
    return [
        variant.name,
        variant.library,
        expression,
        variant.init,
        variant.rule,
        [asdict(sizes) for sizes in variant.regimes],
        variant.fresh_data,
    ]


__all__ = ["fingerprint"]
