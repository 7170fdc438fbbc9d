"""What an adapter, a rule, a law and an optimizer are: shared by the three witnesses, made by none of them."""

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Constant, Gaussian, KaimingUniform, Law, Orthonormal, Uniform, Zero, frozen
from rsverify.definitions.optimizers import Optimizer, as_optimizer, optimizers
from rsverify.definitions.registry import adapters, as_adapter
from rsverify.definitions.rules import ScalingRule, as_rule, rules

__all__ = [
    "Adapter", "Constant", "Gaussian", "KaimingUniform", "Law", "Optimizer", "Orthonormal", "ScalingRule", "Uniform", "Zero",
    "adapters", "as_adapter", "as_optimizer", "as_rule", "frozen", "optimizers", "rules",
]  # fmt: skip
