"""Each declared variant against PEFT's own layer: the same factors add the same weight, and PEFT draws what the laws declare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("peft")

import rsverify as rv
from rsverify.definitions.laws import Constant, Frozen, Gaussian, KaimingUniform, Uniform, Zero, frozen
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.interop.peft import host
from rsverify.interop.peft.target import parse_peft_target
from rsverify.statistics.intervals import normal_quantile
from rsverify.statistics.streams import stream
from rsverify.training.adapters.contraction import AdapterModule

ALPHA = 20.0
ERROR_BUDGET = 1e-6
"""Rate of a false failure over all laws of all variants together."""


@dataclass(frozen=True)
class Held:
    """How PEFT calls what a declaration names: its target, its tensor for each factor, and what its gamma is."""

    target: str
    names: dict[str, str]
    gamma: Callable[[float, float], float] = lambda r, alpha: alpha / r
    reshape: Callable[[str, Tensor], Tensor] = lambda name, value: value
    d_in: int = 24
    d_out: int = 36
    rank: int = 3


LORA = {"B": "lora_B.default.weight", "A": "lora_A.default.weight"}
HELD = {
    "lora": Held("lora", LORA),
    "dora": Held("lora?use_dora=true", {**LORA, "m": "lora_magnitude_vector.default.weight"}),
    "pissa": Held("lora?init_lora_weights=pissa", LORA),
    "olora": Held("lora?init_lora_weights=olora", LORA),
    "loha": Held("loha", {"W1a": "hada_w1_a.default", "W1b": "hada_w1_b.default", "W2a": "hada_w2_a.default", "W2b": "hada_w2_b.default"}),
    # Below half of the larger side of w2, where PEFT keeps it a product.
    "lokr": Held("lokr", {"w1": "lokr_w1.default", "W2a": "lokr_w2_a.default", "W2b": "lokr_w2_b.default"}, d_in=64, d_out=144),
    "adalora": Held("adalora", {"B": "lora_B.default", "E": "lora_E.default", "A": "lora_A.default"},
                    lambda r, alpha: alpha / (r + 1e-5), lambda name, value: value[:, 0] if name == "E" else value),
    "vera": Held("vera", {"b": "vera_lambda_b.default", "B": "vera_B.default", "d": "vera_lambda_d.default", "A": "vera_A.default"},
                 lambda r, alpha: 1.0),
    "hira": Held("hira", {"B": "hira_B.default", "A": "hira_A.default"}, lambda r, alpha: 1.0),
    "randlora": Held("randlora", {"B": "randlora_B.default", "L": "randlora_lambda.default", "A": "randlora_A.default",
                                  "G": "randlora_gamma.default"}, reshape=lambda name, value: _randlora(name, value)),
    "miss": Held("miss", {"D": "miss_block.default"}, lambda r, alpha: 1.0),
    "delora": Held("delora", {"B": "delora_B.default", "A": "delora_A.default", "strength": "delora_lambda.default",
                              "w_norm": "delora_w_norm.default"}, lambda r, alpha: 1 / r),
    "fourierft": Held("fourierft", {"c": "fourierft_spectrum.default"}, lambda r, alpha: alpha),
}  # fmt: skip


def _randlora(name: str, value: Tensor) -> Tensor:
    """PEFT flattens A's side over (rank, base) and B's over (base, rank), and pairs the two by position.

    So B's entries meet other bases and ranks than their own unless there is one base or rank one. They are independent and
    alike: the law of the adapter is the one declared. Put in the order in which they are used, they give PEFT's function.
    """
    if name == "B":
        d_out, n, r = value.shape
        return value.flatten(1).reshape(d_out, r, n).transpose(1, 2)
    if name == "A":
        return value[:, 0]
    return value.T if name == "L" else value


def peft_layer(held: Held, seed: int = 0) -> tuple[Any, Any, Tensor]:
    """PEFT's model and layer at init, and the pretrained weight; float32, the only dtype in which PEFT starts PiSSA."""
    base = nn.Linear(held.d_in, held.d_out, bias=False)
    with torch.no_grad():
        base.weight.copy_(torch.from_numpy(stream(0, "held to peft", "W").standard_normal((held.d_out, held.d_in)) / math.sqrt(held.d_in)))
    W = base.weight.detach().clone()
    torch.manual_seed(seed)
    model = host.build(parse_peft_target(f"peft:{held.target}"), held.rank, base, ALPHA)
    return model, host.tuner_layer(model), W


def factors_of(name: str, layer: Any) -> dict[str, Tensor]:
    tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    return {factor: HELD[name].reshape(factor, tensors[theirs].detach()) for factor, theirs in HELD[name].names.items()}


def declared_weight(name: str, layer: Any, W: Tensor) -> Tensor:
    """The weight that the declaration gives with PEFT's factors."""
    held, adapter = HELD[name], rv.adapters()[name]
    gamma, f = held.gamma(held.rank, ALPHA), factors_of(name, layer)
    base = layer.get_base_layer().weight.detach().double()
    f = {factor: value.double() for factor, value in f.items()}
    if isinstance(adapter, WrappedAdapter):
        if name == "fourierft":
            f["places"] = adapter.start(W, {}, gamma=gamma, rank=held.rank)[0]["places"]
        return adapter.weight(base, f, gamma=gamma, rank=held.rank).detach()
    if name == "hira":
        f["W"] = W.double()
    if name == "miss":
        f["ones"] = torch.ones(held.d_in // held.rank, dtype=torch.float64)
    assert {n: tuple(v.shape) for n, v in f.items()} == adapter.shapes(held.rank, held.d_in, held.d_out)
    module = AdapterModule(adapter, f, gamma=gamma, rank=held.rank, d_in=held.d_in, d_out=held.d_out)
    return base + module.delta().detach()


def peft_weight(model: Any, held: Held) -> Tensor:
    model.eval()
    with torch.no_grad():
        return model(torch.eye(held.d_in)).T


def test_every_variant_that_peft_has_is_held_to_it() -> None:
    """The five others are not PEFT's: its LoRA-FA is an optimizer, LyCORIS has its own inits, experts are no single layer."""
    assert set(rv.adapters()) - set(HELD) >= {"lora-fa", "lora-xs", "loha-lycoris", "lokr-lycoris", "moe-lora"}
    assert len(HELD) == 13


@pytest.mark.parametrize("name", HELD)
def test_peft_s_factors_give_peft_s_function(name: str) -> None:
    """At init and moved off it, where a zero factor hides nothing; read off the whole model, biases apart."""
    held = HELD[name]
    model, layer, W = peft_layer(held)
    for moved in (False, True):
        if moved:
            rng = stream(0, "held to peft", name)
            with torch.no_grad():
                for parameter in [p for p in layer.parameters() if p.requires_grad]:
                    parameter.add_(torch.from_numpy(0.3 * rng.standard_normal(tuple(parameter.shape))).float())
        expected, found = declared_weight(name, layer, W), peft_weight(model, held).double()
        # PEFT computes in float32: sums of up to 400 terms (d_in, the rank and the factors in turn), none larger than what the factors'
        # absolute values give; the largest entry times 16 stands for that, as in the suite's own bound.
        size = float(expected.abs().max()) + float(W.abs().max())
        assert float((found - expected).abs().max()) <= 400 * 2**-24 * 16 * size
        assert not moved or float((found - W).abs().max()) > 1e-2, "nothing was added: the comparison would be empty"


@pytest.mark.parametrize("name", ["pissa", "olora", "dora", "delora", "fourierft"])
def test_what_a_wrapped_variant_starts_from_is_what_peft_starts_from(name: str) -> None:
    held, adapter = HELD[name], rv.adapters()[name]
    assert isinstance(adapter, WrappedAdapter)
    _, layer, W = peft_layer(held)
    theirs = factors_of(name, layer)
    drawn = {factor: value for factor, value in theirs.items() if factor in adapter.core.laws}
    # DeLoRA's lambda is gamma's alpha here: its strength is one where PEFT's starts at lambda.
    gamma = held.gamma(held.rank, ALPHA)
    factors, base = adapter.start(W, drawn, gamma=gamma, rank=held.rank)
    room = 400 * 2**-24 * 16
    torch.testing.assert_close(base, layer.get_base_layer().weight.detach(), rtol=0, atol=room)
    for factor, value in theirs.items():
        if (name, factor) == ("delora", "strength"):
            assert float(value) == 15.0 and float(factors[factor]) == 1.0
        elif name == "pissa":  # singular vectors have no sign of their own
            torch.testing.assert_close(factors[factor].abs(), value.abs(), rtol=0, atol=room * 4)
        else:
            torch.testing.assert_close(factors[factor], value, rtol=0, atol=room * 4)


def declared_laws() -> list[tuple[str, str, Any]]:
    """Every law of a variant that PEFT draws; of DoRA and DeLoRA those of LoRA's factors."""
    found = []
    for name, held in HELD.items():
        adapter = rv.adapters()[name]
        core = adapter.core if isinstance(adapter, WrappedAdapter) else adapter
        if name in ("pissa", "olora"):
            continue  # no draw: held exactly above
        laws = core.laws
        found += [(name, factor, law) for factor, law in laws.items() if factor in held.names]
    return found


LAWS = declared_laws()
LEVEL = ERROR_BUDGET / (2 * len(LAWS))
"""Two statements a law: its mean and its variance."""


@pytest.mark.statistical
@pytest.mark.parametrize(("name", "factor", "law"), LAWS, ids=[f"{name}-{factor}" for name, factor, _ in LAWS])
def test_peft_draws_what_is_declared(name: str, factor: str, law: Any) -> None:
    held, adapter = HELD[name], rv.adapters()[name]
    core = adapter.core if isinstance(adapter, WrappedAdapter) else adapter
    sizes = {**core.axis_sizes(held.rank, held.d_in, held.d_out), "d_in": held.d_in, "d_out": held.d_out}
    inner = law.law if isinstance(law, Frozen) else law
    spread = inner.scale(sizes)
    variance = spread**2 * float(inner.standard_moment(2)) - (spread * float(inner.standard_moment(1))) ** 2
    # The projections of VeRA and RandLoRA come from a key of the config's and not from torch's seed: one draw, of 72 entries and more.
    draws = [
        factors_of(name, peft_layer(held, seed)[1])[factor].double().numpy() for seed in range(1 if name in ("vera", "randlora") else 8)
    ]
    values = np.concatenate([draw.ravel() for draw in draws])
    if variance == 0:
        # 1e-7: one rounding of a constant to float32
        np.testing.assert_allclose(values, 0.0 if isinstance(inner, Zero) else spread, rtol=1e-7)
        return
    n, z = len(values), normal_quantile(1 - LEVEL)
    kurtosis = float(inner.standard_moment(4)) / float(inner.standard_moment(2)) ** 2
    assert abs(values.mean()) <= z * math.sqrt(variance / n)
    # RandLoRA divides by the deviation it measured: its variance is 1 by construction, and inside any interval around 1.
    assert abs(values.var() / variance - 1) <= z * math.sqrt((kurtosis - 1) / n)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("name", "factor", "law"),
    [
        ("lora", "A", Gaussian(std="1/r")),
        ("lora", "A", KaimingUniform("o")),
        ("lora", "A", Uniform(bound="sqrt(3/i)")),  # variance 1/fan
        ("loha", "W1a", KaimingUniform("i")),
        ("lokr", "W2a", KaimingUniform("p")),
        ("adalora", "B", Gaussian(std="0.05")),
        ("vera", "B", frozen(Uniform(bound="1/sqrt(r)"))),
        ("vera", "d", Constant("1")),
        ("hira", "A", Gaussian(std="1/r")),
        ("delora", "A", KaimingUniform("r")),
        ("randlora", "B", frozen(Uniform(bound="1"))),
        ("randlora", "G", Constant("1/n")),
    ],
)
def test_a_wrong_declaration_is_told(name: str, factor: str, law: Any) -> None:
    """The sample could have shown it: laws that one might have declared instead are refused."""
    with pytest.raises(AssertionError):
        test_peft_draws_what_is_declared(name, factor, law)
