"""What every check works with: layers to adapt, adapters built and moved off their init, functions read off as weights.

Nothing here looks inside an implementation. The added weight is read off by sending the identity through the layer.
"""

from __future__ import annotations

import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.subject import Subject
from rsverify.definitions.adapter import Adapter, FullMatrix
from rsverify.definitions.rules import as_rule
from rsverify.statistics.rounding import gamma_n
from rsverify.statistics.streams import stream

UNKNOWN_ORDER = 16.0
"""How much larger the sum of absolute products inside an unknown implementation may be than |x| |W| and |x| |delta|."""

SPREAD = 8
"""Standard deviations of a sum of n roundings in a coarse dtype: 2 exp(-32) = 3e-14 an entry, far below what draws may cost."""

EVALUATIONS = 16
"""Calls under as many seeds: a draw among three equally likely values stays unseen once in 3**15 = 14 million times."""

TRIED = (3, 6, 4, 8, 2, 12)
"""Ranks in the order of preference: 3 and 6 tell r, sqrt(r) and 2 apart, which 2 and 4 do not."""


@dataclass(frozen=True)
class Layer:
    """A linear layer to adapt. Widths are multiples of 6, so that blocks, classes and Kronecker factors divide them."""

    d_in: int
    d_out: int
    bias: bool

    @property
    def text(self) -> str:
        return f"{self.d_out}x{self.d_in}"


TALL, WIDE, SQUARE = Layer(12, 18, True), Layer(18, 12, False), Layer(12, 12, True)
LAYERS = (TALL, WIDE, SQUARE)


@dataclass
class Built:
    """One adapted layer: the module, the base layer as handed over, and what its weight and bias were before."""

    module: nn.Module
    base: nn.Linear
    W: Tensor
    b: Tensor | None
    layer: Layer
    rank: int
    alpha: float
    residual: bool = False

    @property
    def dtype(self) -> torch.dtype:
        return self.W.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """The output in evaluation mode, without gradients."""
        self.module.eval()
        with torch.no_grad():
            y = self.module(x)
        if not isinstance(y, Tensor):
            raise Wrong(f"the module returns {type(y).__name__}; expected a tensor (..., {self.layer.d_out})")
        return y

    def base_output(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.W, self.b)

    def read(self) -> tuple[Tensor, Tensor]:
        """The layer's function as a weight (d_out, d_in) and a bias (d_out,), read off by unit vectors."""
        eye = torch.eye(self.layer.d_in, dtype=self.dtype)
        offset = self(torch.zeros(1, self.layer.d_in, dtype=self.dtype))[0]
        return (self(eye) - offset).T, offset

    def added(self) -> Tensor:
        """What the adapter adds to the pretrained weight."""
        return self.read()[0] - self.W

    def own(self) -> dict[str, Tensor]:
        """The adapter's own parameters and buffers: all but the base layer's."""
        theirs = self.base_names()
        return {name: value for name, value in tensors(self.module).items() if name not in theirs}

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, base layer's included where it was not frozen."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def product(self) -> Tensor:
        """What the factors add to the base weight as it now is: `added`, but for adapters that took their first product off it."""
        return self.read()[0] - (self.base.weight.detach() if self.residual else self.W)

    def factors(self) -> dict[str, nn.Parameter]:
        """The trained parameters without the base layer's."""
        theirs = self.base_names()
        return {name: p for name, p in self.trained().items() if name not in theirs}

    def base_names(self) -> frozenset[str]:
        """Names of the base layer's tensors inside the module: the same objects, or copies equal bit for bit."""
        found = set()
        same = {id(self.base.weight), id(self.base.bias)}
        for name, value in tensors(self.module).items():
            copy = any(
                kept is not None and value.shape == kept.shape and value.dtype == kept.dtype and torch.equal(value, kept)
                for kept in (self.W, self.W.T, self.b)
            )
            if id(value) in same or copy:
                found.add(name)
        return frozenset(found)


def seed_torch(number: int) -> None:
    """Torch's generator at a seed, and the accelerators' where a program uses them.

    `torch.manual_seed` would import torch's compiler at its first call (a second) and walk every accelerator at each (milliseconds).
    """
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@dataclass
class Bench:
    """A subject on the bench, with a seed for everything random and a share of the error budget."""

    subject: Subject
    seed: int = 0
    error_budget: float = 1e-6
    _known: dict[str, object] = field(default_factory=dict, init=False)
    """What was made once for all checks: of this bench alone, since one made by `replace` starts without."""

    @cached_property
    def dtype(self) -> torch.dtype:
        """float64 where the subject can compute in it, else float32."""
        return self._probe[1]

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """Two different ranks, neither equal to alpha, at which the subject can be built."""
        return self._probe[0]

    @cached_property
    def _probe(self) -> tuple[tuple[int, ...], torch.dtype]:
        first: Exception | None = None
        for dtype in (torch.float64, torch.float32):
            able = []
            for rank in TRIED:
                if len(able) < 2 and rank != self.subject.alpha:
                    try:
                        self.subject.scaling.gamma(rank, self.subject.alpha)
                        built = self.build(TALL, rank, dtype=dtype)
                        built(torch.zeros(1, TALL.d_in, dtype=dtype))
                        able.append(rank)
                    except Exception as error:
                        first = first or error
            if able:
                return tuple(able), dtype
        assert first is not None
        raise first

    def remember(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once for all checks."""
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    @cached_property
    def draws_in_training(self) -> bool:
        """Whether a call in training mode draws (dropout): then gradients belong to evaluation mode, which computes the function."""
        built = self.trained()
        x = self.x(TALL)
        built.module.train()  # what it returns is not used: some implementations return nothing
        with torch.no_grad():
            return not torch.equal(built.module(x), built.module(x))

    @cached_property
    def draws_in_evaluation(self) -> bool:
        """Whether the forward pass draws in evaluation mode: then nothing that it computes can be compared.

        Fresh layers of one seed are each called once, so that a call that changes the state is not taken for a draw.
        """
        x = self.x(TALL)
        layers = [self.trained() for _ in range(2)]
        first, second = (tensors(built.module) for built in layers)
        if first.keys() != second.keys() or not all(torch.equal(value, second[name]) for name, value in first.items()):
            return False  # two builds of a seed differ: check_build_repeatable says so
        outputs = []
        for k in range(EVALUATIONS):
            built = self.trained()
            seed_torch(k)
            random.seed(k)
            np.random.seed(k)  # noqa: NPY002  the subject's, restored by the surroundings of every check
            outputs.append(built(x.clone()))  # a forward pass that writes to its input has a check of its own
        return any(not torch.equal(y, outputs[0]) for y in outputs)

    @property
    def rank(self) -> int:
        return self.ranks[0]

    @property
    def alpha(self) -> float:
        return self.subject.alpha

    @property
    def other_alpha(self) -> float:
        """A second alpha: no multiple of the first nor of a rank."""
        return self.alpha * 1.85

    def gamma(self, rank: int, alpha: float | None = None) -> float:
        """What the claimed rule says, or the rule of the full matrix that stands in at that rank."""
        alpha = self.alpha if alpha is None else alpha
        full = self.full_at(rank)
        rule = self.subject.scaling if full is None or full.rule is None else as_rule(full.rule)
        return rule.gamma(rank, alpha)

    def full_at(self, rank: int, layer: Layer | None = None) -> FullMatrix | None:
        """The declared full matrix where the subject really holds it, told by the shapes of its tensors; None where it holds a product."""
        layer = layer or TALL
        full = getattr(self.subject.declared, "full", None)
        if full is None or not full.stands_in(rank, layer.d_in, layer.d_out):
            return None
        return self.remember(f"full matrix at {rank} of {layer.text}", lambda: full if self._holds(full, rank, layer) else None)

    def _holds(self, full: FullMatrix, rank: int, layer: Layer) -> bool:
        held = Counter(tuple(value.shape) for value in self.build(layer, rank).own().values())
        declared = self.subject.declared
        assert isinstance(declared, Adapter)
        product, matrices = (Counter(a.shapes(rank, layer.d_in, layer.d_out).values()) for a in (declared, full.adapter))
        return not product <= held and matrices <= held

    def layer(self, layer: Layer, dtype: torch.dtype, which: int = 0) -> nn.Linear:
        """A pretrained layer, the same at every call, its parameters requiring gradients as nn.Linear's do."""
        key = f"layer {layer.text}, bias {layer.bias}, {dtype}, {which}"
        return copy.deepcopy(self.remember(key, lambda: self._layer(layer, dtype, which)))

    def _layer(self, layer: Layer, dtype: torch.dtype, which: int) -> nn.Linear:
        base = nn.Linear(layer.d_in, layer.d_out, bias=layer.bias, dtype=dtype)
        rng = stream(self.seed, "conformance", "base", layer.text, which)
        with torch.no_grad():
            base.weight.copy_(torch.from_numpy(rng.standard_normal((layer.d_out, layer.d_in)) / math.sqrt(layer.d_in)))
            if base.bias is not None:
                base.bias.copy_(torch.from_numpy(rng.standard_normal(layer.d_out) / 2))
        return base

    def build(
        self,
        layer: Layer = TALL,
        rank: int | None = None,
        *,
        alpha: float | None = None,
        dtype: torch.dtype | None = None,
        draw: int = 0,
        which: int = 0,
        zero_row: bool = False,
        bias: float = 1.0,
    ) -> Built:
        """The subject on a fresh layer, at init; the same arguments give torch the same seed, `which` another pretrained weight.

        Args: zero_row sets a row of the pretrained weight to zero; bias multiplies the pretrained bias.
        """
        dtype, rank = dtype or self.dtype, rank or self.rank
        alpha = self.alpha if alpha is None else alpha
        base = self.layer(layer, dtype, which)
        if zero_row:
            with torch.no_grad():
                base.weight[1] = 0
        if bias != 1.0 and base.bias is not None:
            with torch.no_grad():
                base.bias.mul_(bias)
        W, b = base.weight.detach().clone(), None if base.bias is None else base.bias.detach().clone()
        seed_torch(int(stream(self.seed, "conformance", "build", layer.text, rank, draw).integers(2**62)))
        module = self.subject.build(rank, base, alpha)
        if not isinstance(module, nn.Module):
            raise Wrong(f"build returned {type(module).__name__}; expected an nn.Module that adapts the layer it was given")
        return Built(module, base, W, b, layer, rank, alpha, self.subject.claim == "residual")

    def trained(
        self, layer: Layer = TALL, rank: int | None = None, *, alpha: float | None = None, dtype: torch.dtype | None = None, draw: int = 0
    ) -> Built:
        """The subject away from its init: every factor moved, as training would."""
        built = self.build(layer, rank, alpha=alpha, dtype=dtype, draw=draw)
        self.stir(built)
        return built

    def stir(self, built: Built, name: str = "stir") -> None:
        """Move every trained factor: by normal draws of 0.7 of its own size, or of 1/sqrt(its last size) where it is zero."""
        rng = stream(self.seed, "conformance", name, built.layer.text, built.rank)
        with torch.no_grad():
            for factor in built.factors().values():
                size = float(factor.double().square().mean().sqrt())
                step = 0.7 * size if size > 0 else 1 / math.sqrt(max(factor.shape[-1] if factor.ndim else 1, 1))
                draw = torch.from_numpy(np.asarray(rng.standard_normal(tuple(factor.shape)))).to(factor.device)
                factor.add_((step * draw).to(factor.dtype))

    def x(self, layer: Layer, n: int = 5, dtype: torch.dtype | None = None) -> Tensor:
        """Inputs (n, d_in)."""
        x = stream(self.seed, "conformance", "x", layer.text).standard_normal((n, layer.d_in))
        return torch.from_numpy(x).to(torch.get_default_device(), dtype or self.dtype)

    def v(self, layer: Layer, n: int = 5) -> Tensor:
        """Gradients in the outputs (n, d_out)."""
        v = stream(self.seed, "conformance", "v", layer.text).standard_normal((n, layer.d_out))
        return torch.from_numpy(v).to(torch.get_default_device(), self.dtype)

    def like(self, factor: Tensor, name: str) -> Tensor:
        """A direction to move a factor in, of the factor's own size."""
        size = float(factor.detach().double().square().mean().sqrt()) or 1.0
        values = size * stream(self.seed, "conformance", "like", name).standard_normal(tuple(factor.shape))
        return torch.from_numpy(np.asarray(values)).to(factor.device, factor.dtype)

    def require_linear(self, built: Built) -> tuple[Tensor, Tensor]:
        """Weight and bias of the layer's function; skips where it is none of x alone, or not affine."""
        W, offset = built.read()
        x = self.x(built.layer, dtype=built.dtype)
        if not close(built(x), nn.functional.linear(x, W, offset), built):
            raise Skip("the function is not affine in x: it has no weight to compare with")
        return W, offset


def close(found: Tensor, expected: Tensor, built: Built, *, dtype: torch.dtype | None = None) -> bool:
    """Whether two outputs or weights are equal up to rounding of `built`'s computation (float32 by default: see `tolerance`)."""
    return found.shape == expected.shape and bool(((found - expected).abs() <= tolerance(built, found, expected, dtype=dtype)).all())


def tolerance(built: Built, *values: Tensor, dtype: torch.dtype | None = None) -> float:
    """How far two evaluations of the layer's function may differ.

    An implementation may compute in float32 whatever it is given: that has a check of its own and must not fail every other. So
    the unit is that of float32, or of the layer's own dtype where that is coarser. In a coarse dtype the bound n u on n
    roundings says nothing, so there SPREAD sqrt(n) u is used, which fails with probability below 2 exp(-SPREAD**2 / 2) an entry.
    Source: Higham 2002, lemma 3.1; Higham and Mary 2019, theorem 2.4 (not seen).
    """
    unit = dtype or max(built.dtype, torch.float32, key=lambda d: torch.finfo(d).eps)
    n = built.layer.d_in + built.rank + 8
    magnitude = max((float(value.abs().max()) for value in values if value.numel()), default=0.0)
    magnitude = max(magnitude, float(built.W.abs().max()))
    if torch.finfo(unit).eps > torch.finfo(torch.float32).eps:
        return SPREAD * math.sqrt(n) * torch.finfo(unit).eps / 2 * magnitude * 4
    return 2 * gamma_n(n, str(unit).removeprefix("torch.")) * UNKNOWN_ORDER * magnitude


def ratio(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """The factor c that makes c * expected nearest to found, and the part of found that no factor explains."""
    norm = float((expected * expected).sum())
    c = float((found * expected).sum()) / norm if norm else math.nan
    rest = float((found - c * expected).norm()) / (float(found.norm()) or 1.0)
    return c, rest


def transplant(source: Built, target: Built) -> None:
    """Copy every parameter and buffer by name, the base layer's included; skips where the two modules do not hold the same ones."""
    theirs, ours = tensors(source.module), tensors(target.module)
    shapes = [{name: value.shape for name, value in held.items()} for held in (theirs, ours)]
    if shapes[0] != shapes[1]:
        raise Skip("two builds with the same arguments hold different tensors: no state can be carried from one to the other")
    with torch.no_grad():
        for name, value in ours.items():
            value.copy_(theirs[name])


def named(items: Sequence[str]) -> str:
    """A few names for a message."""
    return ", ".join(items[:4]) + (f" and {len(items) - 4} more" if len(items) > 4 else "")
