"""What an adapter, a rule, a law and an optimizer are: shared by the three witnesses, made by none of them."""

# The function `adapters` is not among these names: `definitions.adapters` is the folder of declarations, and
# importing it would replace the function here. It lives in `definitions.registry`, and as `rsverify.adapters`.

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Constant, Gaussian, KaimingUniform, Law, Orthonormal, PrincipalComponents, Uniform, Zero, frozen
from rsverify.definitions.optimizers import Optimizer, as_optimizer, optimizers
from rsverify.definitions.registry import as_adapter
from rsverify.definitions.rules import ScalingRule, as_rule, rules

__all__ = [
    "Adapter", "Constant", "Gaussian", "KaimingUniform", "Law", "Optimizer", "Orthonormal", "PrincipalComponents", "ScalingRule",
    "Uniform", "Zero", "as_adapter", "as_optimizer", "as_rule", "frozen", "optimizers", "rules",
]  # fmt: skip
