"""rsverify says, with proof and measurement, how a low-rank adapter behaves as its rank grows.

The names below are loaded when first used, so that `import rsverify` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "rsverify.definitions.adapter": ("Adapter",),
    "rsverify.definitions.wrapped": ("WrappedAdapter",),
    "rsverify.definitions.laws": (
        "Constant",
        "Gaussian",
        "KaimingUniform",
        "Orthonormal",
        "PrincipalComponents",
        "Uniform",
        "Zero",
        "frozen",
    ),
    "rsverify.definitions.rules": ("ScalingRule", "rules"),
    "rsverify.definitions.registry": ("adapters",),
    "rsverify.definitions.optimizers": ("optimizers",),
    "rsverify.symbolic": ("derive", "solve"),
    "rsverify.symbolic.answers.limit": ("limit_of_rank",),
    "rsverify.montecarlo": ("Budget", "estimate"),
    "rsverify.conformance": ("CheckFailed", "Part", "Subject", "check_adapter"),
    "rsverify.conformance.parity": ("Parity", "parity"),
    "rsverify.interop.peft": ("subject_from_peft",),
    "rsverify.training": ("Configuration", "fine_tuning_task", "grid", "measure", "module_task", "train_stacked"),
    "rsverify.training.adapters.rank_free": ("build_rank_free", "train_full", "train_rank_free"),
    "rsverify.report.plotting": ("plot",),
    "rsverify.studies.transfer": ("transfer",),
    "rsverify.studies.verify": ("verify",),
    "rsverify.studies.budget": ("budget",),
    "rsverify.errors": ("AdapterError", "BudgetError", "NotDerivable", "RsverifyError", "RuleError"),
    "rsverify.records": ("CheckResult", "Claim", "Estimate", "Measurement", "Prediction", "StableScaling", "Verdict"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name == "testing":  # a room, not a name: it stays out of __all__
        return import_module("rsverify.testing")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rsverify' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
