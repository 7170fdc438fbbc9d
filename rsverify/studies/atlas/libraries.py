"""PEFT's own layers as black boxes: which target of PEFT a variant of the atlas is, and how its layer is built for one draw.

Only what the layer computes is used; nothing of the declaration is. What PEFT draws once, from a seed of its own, is drawn anew for
every draw: otherwise one set of frozen matrices would be judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from rsverify.definitions.rules import ScalingRule
from rsverify.montecarlo.places import HIGH, KRONECKER, MODULES, SPECTRAL, WAVES, WEAK, Sizes
from rsverify.studies.atlas.variants import as_variant

WITNESS = "PEFT's own layer"
NO_PEFT = "PEFT is not installed: pip install 'rsverify[peft]' lets its own layers speak"
OTHER_RULE = "PEFT cannot be asked for this rule; its own layer speaks where it can"


@dataclass(frozen=True)
class BlackBox:
    """A variant as PEFT builds it.

    Args:
        target: of PEFT, without rank and alpha; root: the target whose rule is alpha/sqrt(r), where PEFT has one.
        seeded: the setting that seeds what PEFT draws once for all layers.
        fresh: every draw on a base weight and data of its own, where the layer itself draws nothing.
        alpha: the setting through which it is asked for a rule that it does not ship, with alpha as that rule asks at each rank; only
            where theory is silent, and another witness is needed.
        precision: half-width of the exponent, where theory is silent under some optimizer only.
    """

    target: str
    sizes: Sizes = MODULES
    root: str = ""
    seeded: str = ""
    fresh: bool = False
    alpha: str = ""
    precision: float | None = None


def _lora(query: str = "", sizes: Sizes = MODULES, *, fresh: bool = False) -> BlackBox:
    plain = f"peft:lora?{query}" if query else "peft:lora"
    root = plain + ("&" if query else "?") + "use_rslora=true"
    return BlackBox(plain, sizes, root=root, fresh=fresh, precision=0.05 if fresh else None)


BLACK_BOXES = {
    "lora": _lora(),
    "lora-gaussian": _lora("init_lora_weights=gaussian"),
    "lora-random": _lora("init_lora_weights=false", HIGH),
    "dora": _lora("use_dora=true", WEAK),
    "pissa": _lora("init_lora_weights=pissa", SPECTRAL, fresh=True),
    "olora": _lora("init_lora_weights=olora", SPECTRAL, fresh=True),
    "adalora": BlackBox("peft:adalora", HIGH),
    "loha": BlackBox("peft:loha", Sizes("rank", 32, 32, (256, 1024, 4096))),  # entries of its frozen product do not average over r
    "lokr": BlackBox("peft:lokr", KRONECKER),
    "vera": BlackBox("peft:vera", Sizes("rank", 16, 96, (64, 256, 1024)), seeded="projection_prng_key"),
    "randlora": BlackBox("peft:randlora", Sizes("rank", 64, 96, (4, 8, 16, 32)), seeded="projection_prng_key"),
    "hira": BlackBox("peft:hira"),
    "hira-gaussian": BlackBox("peft:hira?init_weights=gaussian"),
    "miss": BlackBox("peft:miss", Sizes("rank", 512, 8, (16, 64, 256)), fresh=True),
    "delora": BlackBox("peft:delora", alpha="delora_lambda"),
    "fourierft": BlackBox("peft:fourierft", WAVES, seeded="random_loc_seed", fresh=True, alpha="scaling"),
}  # fmt: skip
"""The variants of the atlas that PEFT 0.21.2 has. lora-fa is an optimizer there."""


def black_box(variant: str, sizes: Sizes, rule: str, *, shipped: str, root: str) -> tuple[str, str]:
    """(target, reason): the target to build, or why PEFT's layer is silent about a variant under a rule."""
    found = BLACK_BOXES.get(variant)
    if found is None:
        return "", "PEFT 0.21.2 has no such layer"
    if find_spec("peft") is None:
        return "", NO_PEFT
    if found.sizes.regime != sizes.regime:
        return "", f"PEFT's own layer is asked in regime {found.sizes.regime}: a torch module for every draw is too dear for wider layers"
    target = found.target if rule == shipped or found.alpha else found.root if rule == root else ""
    return target, "" if target else OTHER_RULE


def builder(variant: str, target: str, *, rule: str) -> Callable[[int, Any, float], Any]:
    """build(rank, base, alpha): PEFT's layer of a target under a rule, all that PEFT draws drawn from torch's generator."""
    from rsverify.interop.peft.target import parse_peft_target

    return partial(_build, parse_peft_target(target), BLACK_BOXES[variant], as_variant(variant).rule, rule)


def _build(recipe: Any, box: BlackBox, shipped: str, rule: str, rank: int, base: Any, alpha: float) -> Any:
    import torch

    from rsverify.interop.peft import host

    options = dict(recipe.options)
    if box.seeded:
        options[box.seeded] = int(torch.randint(2**31, ()))
    if box.alpha:  # the shipped rule is proportional to alpha
        alpha *= ScalingRule(rule).gamma(rank, alpha) / ScalingRule(shipped).gamma(rank, alpha)
        options[box.alpha] = alpha
    recipe = replace(recipe, options=options)
    if recipe.residual:
        base = base.float()  # PEFT takes no singular vectors of a float64 weight
    return host.build(recipe, rank, base, alpha)
