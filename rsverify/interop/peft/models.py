"""Layers that are not linear, or not judged by themselves: what PEFT does to them, held to what must be true of any adapter.

A case is a small model with a config. Its name stands in the target: `peft:lora@conv2d-dilated`.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.interop.peft.host import quiet
from rsverify.interop.peft.library import config_classes, library
from rsverify.interop.peft.ownchecks import register
from rsverify.statistics.rounding import gamma_n
from rsverify.statistics.streams import stream

ALPHA = 6.0
RANK = 2
SIZE = 64
"""Terms of the longest sum in any case: a 3 x 3 kernel over three channels, attention over eight entries, and the adapter's own."""


class Whole(nn.Module):
    """A model around one layer, called with as many copies of its input as the layer takes."""

    def __init__(self, layer: nn.Module, copies: int = 1) -> None:
        super().__init__()
        self.layer, self.copies = layer, copies

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(*[x] * self.copies)
        return y[0] if isinstance(y, tuple) else y


class Experts(nn.Module):
    """Three experts' weights in one parameter, as in fused mixture-of-experts layers."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3, 8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,eio->beo", x, self.w)


def _parametrized() -> nn.Module:
    experts = Experts()
    nn.utils.parametrize.register_parametrization(experts, "w", nn.Identity())
    return experts


def _conv1d() -> nn.Module:
    from transformers.pytorch_utils import Conv1D

    return Conv1D(8, 8)


@dataclass(frozen=True)
class Case:
    """A method on a layer: how the layer is made, what goes in, further settings."""

    method: str
    name: str
    layer: Callable[[], nn.Module]
    x: tuple[int, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    copies: int = 1
    parameter: str = ""

    @property
    def target(self) -> str:
        """How the case is named among targets."""
        return f"peft:{self.method}@{self.name}"


def _conv2d(**settings: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(3, 4, 3, **{"padding": "same", **settings})


def _attention() -> nn.Module:
    return nn.MultiheadAttention(8, 2, batch_first=True)


IMAGE, TOKENS = (2, 3, 6, 6), (5,)
CIRCULAR = {"padding_mode": "circular"}
CASES = (
    Case("lora", "embedding", lambda: nn.Embedding(10, 8), TOKENS),
    Case("lora", "embedding-max-norm", lambda: nn.Embedding(10, 8, max_norm=1.0), TOKENS),
    Case("lora", "embedding-loftq", lambda: nn.Embedding(10, 8), TOKENS, {"init_lora_weights": "loftq", "loftq_config": {}}),
    Case("lora", "conv1d", lambda: nn.Conv1d(3, 4, 3), (2, 3, 8)),
    Case("lora", "conv2d", _conv2d(), IMAGE),
    Case("lora", "conv2d-dilated", _conv2d(dilation=2), IMAGE),
    Case("lora", "conv2d-circular", _conv2d(**CIRCULAR), IMAGE),
    Case("lora", "conv3d-flat", lambda: nn.Conv3d(3, 4, (1, 1, 2)), (1, 3, 4, 4, 4)),
    *(Case(method, "conv2d-circular", _conv2d(**CIRCULAR), IMAGE) for method in ("loha", "lokr", "hira", "adalora")),
    Case("lora", "transposed", _conv1d, (5, 8), {"fan_in_fan_out": True}),
    Case("lora", "transposed-pissa", _conv1d, (5, 8), {"fan_in_fan_out": True, "init_lora_weights": "pissa"}),
    Case("lora", "transposed-olora", _conv1d, (5, 8), {"fan_in_fan_out": True, "init_lora_weights": "olora"}),
    Case("lora", "linear-pissa-niter", lambda: nn.Linear(32, 32), (5, 32), {"init_lora_weights": "pissa_niter_1"}),
    Case("lora", "attention", _attention, (2, 3, 8), copies=3),
    Case("lora", "attention-pissa", _attention, (2, 3, 8), {"init_lora_weights": "pissa"}, copies=3),
    Case("lora", "experts", Experts, (5, 8), parameter="layer.w"),
    Case("lora", "experts-orthogonal", Experts, (5, 8), {"init_lora_weights": "orthogonal"}, parameter="layer.w"),
    Case("lora", "experts-parametrized", _parametrized, (5, 8), parameter="layer.w"),
)


@dataclass
class Wrapped:
    """A case that was built: the adapted model, the model as it was, an input."""

    model: Any
    before: nn.Module
    x: Tensor

    def __call__(self, model: Any = None) -> Tensor:
        model = self.model if model is None else model
        model.eval()
        with torch.no_grad():
            return model(self.x)

    def close(self, found: Tensor, expected: Tensor) -> bool:
        """Whether two outputs are equal up to float32's rounding of sums of SIZE terms, 16 times as large inside as their result."""
        size = max(1.0, float(expected.abs().max()))
        return bool(((found - expected).abs() <= 2 * gamma_n(SIZE, "float32") * 16 * size).all())

    def off(self, found: Tensor, expected: Tensor) -> str:
        """How far two outputs are apart, relative to what the adapter adds."""
        added = float((expected - self(self.before)).norm()) or float(expected.norm())
        return f"off by {float((found - expected).norm()) / added:.2g} of what the adapter adds"

    def stir(self) -> None:
        """Move every trained factor off its init."""
        draw = stream(0, "peft", "model")
        for value in self.model.parameters():
            if value.requires_grad:
                value.data.add_(torch.from_numpy(0.3 * draw.standard_normal(tuple(value.shape))).to(value))


def wrap(case: Case, dtype: torch.dtype = torch.float32) -> Wrapped:
    """The case, built by PEFT from the same seed at every call."""
    torch.manual_seed(11)
    base = Whole(case.layer(), case.copies).to(dtype)
    before = copy.deepcopy(base)
    integers = case.x == TOKENS
    x = torch.randint(0, 10, case.x) if integers else torch.randn(case.x, dtype=dtype)
    with quiet():
        model = library().get_peft_model(base, _config(case))
    return Wrapped(model, before, x)


def _config(case: Case) -> Any:
    alpha = {"lora": "lora_alpha", "adalora": "lora_alpha", "loha": "alpha", "lokr": "alpha"}.get(case.method)
    settings = {"r": RANK, **({alpha: ALPHA} if alpha else {}), **case.settings}
    if case.method == "adalora":
        settings = {"init_r": RANK, "lora_alpha": ALPHA, "total_step": 100}
    if isinstance(settings.get("loftq_config"), dict):
        settings["loftq_config"] = library().LoftQConfig()
    where = {"target_modules": [], "target_parameters": [case.parameter]} if case.parameter else {"target_modules": ["layer"]}
    return config_classes()[case.method](**settings, **where)


def check_model_init(case: Case) -> None:
    """The adapted model computes what the model did."""
    built = wrap(case)
    found, expected = built(), built(built.before)
    if not built.close(found, expected):
        off = float((found - expected).norm() / expected.norm())
        raise Wrong(f"at init the output is off the pretrained one by {off:.2g} of itself")


def check_model_repeatable(case: Case) -> None:
    """Calling again gives the same output."""
    built = wrap(case)
    built.stir()
    first = built()
    for _ in range(2):
        again = built()
        if not torch.equal(again, first):
            raise Wrong(f"the same input gives another output the next time: {built.off(again, first)}")


def check_model_delta(case: Case) -> None:
    """Merged into the weights, the adapter is what the library says it adds, once."""
    built = wrap(case)
    built.stir()
    layers = {name: m for name, m in built.model.named_modules() if hasattr(m, "get_delta_weight") and hasattr(m, "weight")}
    if not layers or case.method != "lora":
        raise Skip("no layer says what it adds to one weight")
    deltas = {name: m.get_delta_weight("default").detach().clone() for name, m in layers.items()}
    before = {name: m.weight.detach().clone() for name, m in layers.items()}
    with quiet():
        built.model.merge_adapter()
    for name, m in layers.items():
        added = m.weight.detach() - before[name]
        c = float((added * deltas[name]).sum() / (deltas[name] * deltas[name]).sum())
        if not math.isclose(c, 1.0, rel_tol=1e-4):  # products of float32 weights of size 1 and deltas no smaller than a tenth
            raise Wrong(f"merging adds {c:.4g} times the delta of {name.removeprefix('base_model.model.')}")


def check_model_merge(case: Case) -> None:
    """Merging leaves the function as it is."""
    built = wrap(case)
    built.stir()
    expected = built()
    with quiet():
        built.model.merge_adapter()
    if not built.close(built(), expected):
        raise Wrong(f"merged and unmerged differ: {built.off(built(), expected)}")


def check_model_unmerge(case: Case) -> None:
    """Merging and unmerging leaves the function as it is."""
    built = wrap(case)
    built.stir()
    expected = built()
    with quiet():
        built.model.merge_adapter()
        built.model.unmerge_adapter()
    if not built.close(built(), expected):
        raise Wrong(f"after merging and unmerging: {built.off(built(), expected)}")


def check_model_load(case: Case) -> None:
    """A saved and loaded adapter computes the same function."""
    built = wrap(case)
    built.stir()
    expected = built()
    with quiet(), tempfile.TemporaryDirectory() as folder:
        built.model.save_pretrained(folder)
        loaded = library().PeftModel.from_pretrained(copy.deepcopy(built.before), folder)
    found = built(loaded)
    if not built.close(found, expected):
        raise Wrong(f"saved and loaded: {built.off(found, expected)}")


def check_model_gradient(case: Case) -> None:
    """The gradient along a direction of the trained factors is what moving along it does."""
    try:
        built = wrap(case, torch.float64)
    except TypeError as error:
        raise Skip(f"it cannot be built in float64: {error}") from error
    built.stir()
    built.model.eval()
    factors = [value for value in built.model.parameters() if value.requires_grad]
    draw = stream(0, "peft", "direction")
    directions = [torch.from_numpy(draw.standard_normal(tuple(value.shape))).to(value) for value in factors]
    weights = torch.from_numpy(draw.standard_normal(tuple(built().shape)))
    loss = (built.model(built.x) * weights).sum()
    found = torch.autograd.grad(loss, factors, allow_unused=True)
    said = float(sum((g * d).sum() for g, d in zip(found, directions, strict=True) if g is not None))
    step, values = 2.0**-14, []
    for sign in (1, -1):
        for value, d in zip(factors, directions, strict=True):
            value.data.add_(sign * step * d)
        values.append(float((built().double() * weights).sum()))
        for value, d in zip(factors, directions, strict=True):
            value.data.sub_(sign * step * d)
    real = (values[0] - values[1]) / (2 * step)
    # A central difference is off by step**2 times a third derivative, and by rounding over step: both near 1e-8; float32 inside: 1e-3.
    if abs(said - real) > 1e-2 * max(abs(real), float(loss.detach().abs())):
        raise Wrong(f"the gradient along a direction is {said:.4g}; moving along it changes the output by {real:.4g}")


CHECKS = (check_model_init, check_model_repeatable, check_model_delta, check_model_merge, check_model_unmerge, check_model_load,
          check_model_gradient)  # fmt: skip

for _case in CASES:
    for _check in CHECKS:
        register(_case.target, _check.__name__, partial(_check, _case))
