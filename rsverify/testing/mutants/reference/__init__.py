"""Sound adapters written from the textbook, every piece replaceable: a mutant is one of these with one piece done wrong.

They share no code with `rsverify.conformance.declared` or `rsverify.training`: what is right here is right for its own reasons.
A `Kit` holds the pieces as plain functions of the adapted layer; `kit.subject()` is what `check_adapter` judges.
"""

from rsverify.testing.mutants.reference.dora import DORA, dora_start
from rsverify.testing.mutants.reference.experts import EXPERTS, expert_start
from rsverify.testing.mutants.reference.files import loaded, saved
from rsverify.testing.mutants.reference.fused import FUSED, QKV, blocks_of, fused_delta, fused_gammas
from rsverify.testing.mutants.reference.kronecker import KRONECKER, LOKR, LOKR_FREE
from rsverify.testing.mutants.reference.lora import BIASED, DROPPED, FROZEN, LORA, kaiming, lora_delta, lora_start
from rsverify.testing.mutants.reference.merge import merged, unmerged, wide
from rsverify.testing.mutants.reference.pieces import activated, added, built, computed, rescaled, ruled
from rsverify.testing.mutants.reference.pissa import RESIDUAL, residual_convert, residual_start
from rsverify.testing.mutants.reference.products import combined, redistributed, truncated
from rsverify.testing.mutants.reference.slots import Adapted, Kit, Slot

SOUND = {
    "lora": LORA, "lora-dropout": DROPPED, "lora-bias": BIASED, "dora": DORA, "lora-fa": FROZEN, "pissa": RESIDUAL,
    "fused": FUSED, "experts": EXPERTS, "kronecker": KRONECKER, "qkv": QKV, "lokr": LOKR, "lokr-lycoris": LOKR_FREE,
}  # fmt: skip
"""The implementations that mutants are made from, by name."""

__all__ = [
    "BIASED",
    "DORA",
    "DROPPED",
    "EXPERTS",
    "FROZEN",
    "FUSED",
    "KRONECKER",
    "LOKR",
    "LOKR_FREE",
    "LORA",
    "QKV",
    "RESIDUAL",
    "SOUND",
    "Adapted",
    "Kit",
    "Slot",
    "activated",
    "added",
    "blocks_of",
    "built",
    "combined",
    "computed",
    "dora_start",
    "expert_start",
    "fused_delta",
    "fused_gammas",
    "kaiming",
    "loaded",
    "lora_delta",
    "lora_start",
    "merged",
    "redistributed",
    "rescaled",
    "residual_convert",
    "residual_start",
    "ruled",
    "saved",
    "truncated",
    "unmerged",
    "wide",
]
