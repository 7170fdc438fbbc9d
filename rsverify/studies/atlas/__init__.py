"""The atlas: for every known adapter and optimizer, which scaling rule is stable and whether the shipped one is."""

from rsverify.studies.atlas.record import Answer, Atlas, Entry
from rsverify.studies.atlas.study import OPTIMIZERS, QUICK_OPTIMIZERS, atlas
from rsverify.studies.atlas.variants import Variant, variants

__all__ = ["OPTIMIZERS", "QUICK_OPTIMIZERS", "Answer", "Atlas", "Entry", "Variant", "atlas", "variants"]
