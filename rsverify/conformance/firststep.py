"""One training step of a black box at two ranks, draw by draw: gradient norm, change of the output, first-order loss decrease.

The subject is built anew for each draw, stepped by the training witness's updates, and never opened. Draws are designed as Monte
Carlo's are: a pilot tells the spread, the sample's size follows from the margin and the error budget, fresh draws decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rsverify.conformance.bench import Bench, Layer, seed_torch
from rsverify.conformance.declared import Implementation
from rsverify.conformance.outcomes import Skip
from rsverify.conformance.subject import QUANTITIES
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import as_optimizer
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import RsverifyError
from rsverify.montecarlo.curve import Magnitude, magnitude
from rsverify.montecarlo.problem import make_problem
from rsverify.statistics.design import LEAST_DRAWS
from rsverify.statistics.intervals import level_for, normal_quantile, student_quantile
from rsverify.statistics.streams import stream
from rsverify.training.optimizers import STEPS

LR = 1e-3
OPTIMIZERS = ("sgd", "adamw")
STATEMENTS = 2 * len(QUANTITIES)
"""An exponent and a level for each quantity: they share the error budget."""

MARGIN = 0.1
LEVEL_MARGIN = 0.25
"""In the logarithm of a magnitude: wrong constants of laws are off by sqrt(3) = 0.55 and more; a sign step's Gaussian approximation
is off by some 1/d_in."""

SHARE = 0.3
"""Half-width over margin that the draws are designed for; the rest is room for skewness and for the error of a simulated prediction."""

PILOT = 64
MOST = 2048
"""Draws per rank that a check may cost: some seconds. Beyond, the answer is inconclusive and names the price."""

MOST_DECLARED = 512
"""Draws per rank of our own module of a declaration."""

PLACES: tuple[tuple[Layer, tuple[int, int]], ...] = (
    (Layer(24, 36, False), (64, 1024)),
    (Layer(24, 36, False), (3, 24)),
    (Layer(144, 120, False), (6, 96)),
)
"""Layers with two ranks, in order of preference: large ranks average themselves out; not every adapter can exceed its widths."""


@dataclass(frozen=True)
class FirstStep:
    """What the draws showed: a magnitude per rank for each quantity, the data behind it, and the level of each interval."""

    layer: Layer
    ranks: tuple[int, int]
    level: float
    magnitudes: dict[str, tuple[Magnitude, Magnitude]]
    skews: dict[str, tuple[float, float]]
    identical: bool
    readable: float
    x: np.ndarray
    v: np.ndarray

    def exponent(self, quantity: str) -> tuple[float, float]:
        """The power of r between the two ranks, and the half-width of its interval."""
        low, high = self.magnitudes[quantity]
        span = math.log(self.ranks[1] / self.ranks[0])
        half = math.hypot(*(self.half(quantity, k) for k in (0, 1)))
        return math.log(abs(high.value) / abs(low.value)) / span, half / span

    def log_level(self, quantity: str) -> tuple[float, float]:
        """The logarithm of the magnitude at the larger rank, and the half-width of its interval."""
        return math.log(abs(self.magnitudes[quantity][1].value)), self.half(quantity, 1)

    def half(self, quantity: str, k: int) -> float:
        """Student's half-width of the log magnitude at one of the ranks, widened for the skewness of the draws.

        In words: t + (t**2 - 1) skew / (6 sqrt(n)), the first term of Cornish and Fisher's expansion of a mean's quantile.
        Source: Cornish and Fisher 1938 (not seen).
        """
        m, skew = self.magnitudes[quantity][k], self.skews[quantity][k]
        t = student_quantile(self.level, m.draws - 1)
        return (t + (t * t - 1) * skew / (6 * math.sqrt(m.draws))) * m.log_error


def first_step(bench: Bench) -> FirstStep:
    """The first step of the subject, simulated once for all checks."""
    return bench.remember("first step", lambda: _simulate(bench, *_place(bench)))


def glance(bench: Bench) -> FirstStep:
    """The first step from the pilot's draws alone: enough to show a power of the rank, not to judge it."""
    return bench.remember("first step, pilot", lambda: _simulate(bench, *_place(bench), pilot_alone=True))


def declared_step(bench: Bench, declared: WrappedAdapter, seen: FirstStep) -> FirstStep:
    """The first step of our own module of a declaration, on the layer, at the ranks and on the data of another, from draws of its own."""
    subject = Implementation(declared, bench.subject.scaling).subject(alpha=bench.alpha)
    other = replace(bench, subject=subject)
    return bench.remember(
        f"first step, {declared.name}", lambda: _simulate(other, seen.layer, seen.ranks, whose="declared ", most=MOST_DECLARED)
    )


def _simulate(
    bench: Bench, layer: Layer, ranks: tuple[int, int], *, whose: str = "", most: int = MOST, pilot_alone: bool = False
) -> FirstStep:
    problem = make_problem(bench.seed, d_in=layer.d_in, d_out=layer.d_out, cosine=1.0)
    x, v = (torch.from_numpy(value).to(torch.get_default_device(), bench.dtype) for value in (problem.x, problem.v))
    level = level_for(bench.error_budget, STATEMENTS)
    pilots = [_draws(bench, layer, rank, x, v, f"{whose}pilot", PILOT) for rank in ranks]
    identical = all(bool((values == values[0]).all()) for pilot in pilots for values in pilot.values())
    sizes = [PILOT, PILOT] if identical or pilot_alone else _sizes(pilots, ranks, level, most)
    # A pilot that is enough is the sample. Otherwise fresh draws: keeping the pilot's would tie n to the mean.
    samples = [
        pilot if n <= PILOT else _draws(bench, layer, rank, x, v, f"{whose}sample", n)
        for pilot, n, rank in zip(pilots, sizes, ranks, strict=True)
    ]  # fmt: skip
    magnitudes: dict[str, tuple[Magnitude, Magnitude]] = {}
    skews: dict[str, tuple[float, float]] = {}
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is judged as such
        for quantity in QUANTITIES:
            low, high = (magnitude(rank, sample[quantity], "rms") for rank, sample in zip(ranks, samples, strict=True))
            magnitudes[quantity] = (low, high)
            skews[quantity] = (_skew(samples[0][quantity]), _skew(samples[1][quantity]))
    # A change of the output is a difference of two: each is rounded to some ten units of its own size, so that 1e4 units show it
    # to one part in a hundred or better: 0.005 in an exponent over a factor of eight in rank, of a margin of 0.1.
    size = float(bench.layer(layer, bench.dtype)(x).detach().abs().max())
    readable = 1e4 * torch.finfo(bench.dtype).eps / 2 * size
    return FirstStep(layer, ranks, level, magnitudes, skews, identical, readable, problem.x, problem.v)


def _skew(values: np.ndarray) -> float:
    """Skewness of the draws, with three of its own standard errors added: too wide an interval is the safe side."""
    centred = values - values.mean()
    spread = math.sqrt(float((centred**2).mean()))
    return max(0.0, float((centred**3).mean()) / spread**3) + 3 * math.sqrt(6 / len(values)) if spread > 0 else 0.0


def _place(bench: Bench) -> tuple[Layer, tuple[int, int]]:
    declared = bench.subject.declared
    for layer, ranks in PLACES:
        if isinstance(declared, Adapter) and not _fits(declared, layer, ranks):
            continue
        try:
            follows = all(_follows(bench, layer, rank) for rank in ranks)
        except Exception:
            continue
        if follows:
            return layer, ranks
    tried = ", ".join(f"{layer.text} at {r}" for layer, r in PLACES)
    raise Skip(f"it cannot be built at two ranks far enough apart, or no longer follows its rank there: tried {tried}")


def _follows(bench: Bench, layer: Layer, rank: int) -> bool:
    """Whether the rank still makes a difference there: no full matrix stands in, no factor is cut to the layer's width."""
    declared = bench.subject.declared
    built = bench.build(layer, rank)
    built(torch.zeros(1, layer.d_in, dtype=bench.dtype))
    if bench.full_at(rank, layer) is not None:
        return False
    if isinstance(declared, WrappedAdapter):
        counts = [declared.parameters(r, layer.d_in, layer.d_out) for r in (rank - 1, rank)]
        return counts[1] > counts[0]
    if declared is None:
        smaller = bench.build(layer, rank - 1)
        return sum(p.numel() for p in built.trained().values()) > sum(p.numel() for p in smaller.trained().values())
    return True


def _fits(adapter: Adapter, layer: Layer, ranks: tuple[int, int]) -> bool:
    """Whether the adapter exists at the ranks, and no other axis stops following the rank: d/r blocks are one from r = d on."""
    try:
        sizes = [adapter.axis_sizes(rank, layer.d_in, layer.d_out) for rank in (1, *ranks)]
    except RsverifyError:
        return False
    others = [{axis: n for axis, n in found.items() if axis not in adapter.rank_axes and axis != "r"} for found in sizes]
    return others[0] == others[1] == others[2] or ranks[1] <= min(layer.d_in, layer.d_out)


def _sizes(pilots: Sequence[dict[str, np.ndarray]], ranks: tuple[int, int], level: float, most: int) -> list[int]:
    """Draws per rank for exponents within SHARE of the margin, for every quantity; at most `most`."""
    target = SHARE * MARGIN * math.log(ranks[1] / ranks[0])
    wanted = [LEAST_DRAWS, LEAST_DRAWS]
    for quantity in QUANTITIES:
        spreads = [magnitude(rank, pilot[quantity], "rms").spread for rank, pilot in zip(ranks, pilots, strict=True)]
        if not all(math.isfinite(s) for s in spreads):
            continue  # it vanishes or is not finite: no draws would help
        # n_k in proportion to the spread is the cheapest way to a given error of the difference.
        n = (normal_quantile(level) / target) ** 2 * sum(spreads)
        wanted = [max(w, math.ceil(n * s)) for w, s in zip(wanted, spreads, strict=True)]
    return [min(most, w) for w in wanted]


def _draws(bench: Bench, layer: Layer, rank: int, x: Tensor, v: Tensor, phase: str, n: int) -> dict[str, np.ndarray]:
    """For each quantity the number of every draw whose mean is the squared magnitude (entries averaged)."""
    found = {quantity: np.empty(n) for quantity in QUANTITIES}
    optimizers = {name: as_optimizer(name) for name in OPTIMIZERS}
    seeds = stream(bench.seed, "conformance", "first step", phase, rank).integers(2**62, size=n)
    for k in range(n):
        base = bench.layer(layer, bench.dtype)
        seed_torch(int(seeds[k]))
        module = bench.subject.build(rank, base, bench.alpha)
        module.train(not bench.draws_in_training)
        factors = [p for p in module.parameters() if p.requires_grad]
        y = module(x[None])
        gradients = torch.autograd.grad((y[0] * v).sum(), factors, allow_unused=True)
        moving = [(p, g) for p, g in zip(factors, gradients, strict=True) if g is not None]
        found["gradient_norm"][k] = sum(float((g * g).sum()) for _, g in moving)
        with torch.no_grad():
            for name, optimizer in optimizers.items():
                steps = [LR * STEPS[name](optimizer, g, p, {}, 1) for p, g in moving]
                kept = [p.clone() for p, _ in moving]
                for (p, _), step in zip(moving, steps, strict=True):
                    p -= step
                change = module(x[None])[0] - y[0]
                for (p, _), old in zip(moving, kept, strict=True):
                    p.copy_(old)
                found[f"update:{name}"][k] = float((change * change).mean())
                decrease = sum(float((g * step).sum()) for (_, g), step in zip(moving, steps, strict=True))
                found[f"loss_decrease:{name}"][k] = decrease**2
    return found
