"""Of what a number speaks: the claim, without all of whose parts nothing is stated about an adapter."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rsverify.errors import InputError, suggest

PLAIN_QUANTITIES = ("output", "update", "gradient_norm", "input_gradient", "loss_decrease")
STATISTICS = ("rms", "frobenius", "projection", "log")
REGIMES = ("rank", "width")


@dataclass(frozen=True)
class Claim:
    """Of what a number speaks: nothing is stated about an adapter without all of these.

    `adapter`, `init`, `rule`, `optimizer` are names or texts of the registries; `quantity` is one of PLAIN_QUANTITIES or
    `gradient:<factor>`; `probe` is `aligned`, `orthogonal` or `cosine:<c>`; `steps` counts optimizer steps, 0 = at init.
    """

    adapter: str
    init: str
    rule: str
    optimizer: str
    quantity: str = "update"
    statistic: str = "rms"
    probe: str = "aligned"
    regime: str = "rank"
    steps: int = 1

    def __post_init__(self) -> None:
        if self.quantity not in PLAIN_QUANTITIES and not self.quantity.startswith("gradient:"):
            known = (*PLAIN_QUANTITIES, "gradient:<factor>")
            raise InputError(f"quantity={self.quantity!r} is not known{suggest(self.quantity, known)}")
        if self.statistic not in STATISTICS:
            raise InputError(f"statistic={self.statistic!r} is not known{suggest(self.statistic, STATISTICS)}")
        if self.regime not in REGIMES:
            raise InputError(f"regime={self.regime!r} is not known; known are rank (r to infinity), width (width first, then rank)")
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 0:
            raise InputError(f"steps={self.steps!r}; expected a whole number of optimizer steps, 0 = at init")
        _ = self.cosine

    @property
    def cosine(self) -> float:
        """Cosine between the probe x' and the sample x: 1 aligned, 0 orthogonal."""
        return parse_probe(self.probe)

    @property
    def factor(self) -> str | None:
        """The factor of a `gradient:<factor>` quantity."""
        return self.quantity.partition(":")[2] or None


def parse_probe(text: str) -> float:
    """The cosine that a probe's name stands for."""
    named = {"aligned": 1.0, "orthogonal": 0.0}
    if text in named:
        return named[text]
    kind, _, number = text.partition(":")
    try:
        cosine = float(number) if kind == "cosine" else math.nan
    except ValueError:
        cosine = math.nan
    if not -1.0 <= cosine <= 1.0:
        raise InputError(f"probe={text!r}; expected aligned, orthogonal or cosine:<c> with -1 <= c <= 1")
    return cosine
