"""Random adapters and claims: two to four factors, up to three rank axes, grouped axes, every law, any optimizer, quantity and probe."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any

import rsverify as rv
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Law
from rsverify.errors import RsverifyError

OPTIONS: dict[str, tuple[str, ...]] = {
    "weight_decay": ("0.1", "0.5"), "lr_ratio": ("4", "0.5"), "eps": ("1e-3", "10"), "momentum": ("0.5",), "beta1": ("0", "0.5"),
    "beta2": ("0.9",), "alpha": ("0.9",),
}  # fmt: skip
RULES = ("alpha/r", "alpha/sqrt(r)", "alpha", "1", "alpha/r**(1/4)", "alpha/r**2", "alpha/(r + 3)")
FACTORS = ("B", "A", "C", "D", "U", "E")


@dataclass(frozen=True)
class Case:
    """One adapter with a claim about it, and what is needed to build both anew."""

    adapter: Adapter
    rule: str
    claim: dict[str, Any]
    lr: float
    sizes: tuple[int, int]

    @property
    def text(self) -> str:
        asked = ", ".join(f"{key}={value!r}" for key, value in self.claim.items())
        ranks = f", rank_axes={self.adapter.rank_axes!r}" if self.adapter.rank_axes != ("r",) else ""
        sizes = f", sizes={self.adapter.sizes!r}" if self.adapter.sizes else ""
        return f"{self.adapter.expression}; {self.adapter.init}{ranks}{sizes}; {self.rule}; {asked}"


def case(number: int, *, seed: int) -> Case:
    """Case `number` of a seed: always the same one."""
    attempt = 0
    while True:
        draw = random.Random(f"adversary {seed} {number} {attempt}")
        attempt += 1
        try:
            adapter = _adapter(draw)
        except RsverifyError:  # every factor frozen, or an axis without a size
            continue
        grouped = isinstance(adapter.sizes, dict) and bool(adapter.sizes)
        sizes = draw.choice([(6, 4), (4, 8), (8, 8)] if grouped else [(5, 4), (3, 7), (6, 6), (8, 2)])
        claim = _claim(draw, adapter)
        return Case(adapter, draw.choice(RULES), claim, draw.choice([1e-3, 0.05]), sizes)


def _expression(draw: random.Random) -> tuple[str, tuple[str, ...], dict[str, str]]:
    """An expression with its rank axes and sizes."""
    kind = draw.choice(["chain", "chain", "scaled", "hadamard", "kronecker", "core", "shared"])
    if kind == "chain":
        length = draw.choice([2, 2, 2, 3, 4])
        ranks = ["r", "s", "t"][: length - 1]
        axes = ["o", *ranks, "i"]
        pairs = [draw.choice([f"{a} {b}", f"{b} {a}"]) for a, b in itertools.pairwise(axes)]
        return ", ".join(pairs) + " -> o i", tuple(ranks), {}
    if kind == "scaled":
        extra = draw.sample(["o", "r", "i"], draw.choice([1, 2]))
        return ", ".join(["o r", *extra, "r i"]) + " -> o i", ("r",), {}
    if kind == "hadamard":
        return draw.choice(["o r, r i, o s, s i -> o i", "o r, r i, o i -> o i"]), ("r", "s"), {}
    if kind == "core":
        return "o r, r s, s i -> o i", ("r", "s"), {}
    if kind == "shared":
        return draw.choice(["o r, r i, r -> o i", "o r s, r i, s i -> o i", "o r, r i o -> o i"]), ("r", "s"), {}
    expression = draw.choice(["a b, p r, r q -> (a p) (b q)", "a r, r b, p q -> (a p) (b q)", "o r, r b, r q -> o (b q)"])
    sizes = {"a": "2", "p": "d_out/2", "b": "2", "q": "d_in/2"}
    return expression, ("r",), {axis: size for axis, size in sizes.items() if axis in expression.split("->")[0].replace(",", " ").split()}


def _adapter(draw: random.Random) -> Adapter:
    expression, ranks, sizes = _expression(draw)
    operands = [part.split() for part in expression.split("->")[0].split(",")]
    present = {axis for axes in operands for axis in axes}
    names = draw.sample(FACTORS, len(operands))
    zero = draw.choice([None, None, *range(len(operands)), *range(len(operands))])
    laws = {name: _law(draw, axes, k == zero) for k, (name, axes) in enumerate(zip(names, operands, strict=True))}
    return Adapter(
        "drawn", expression, rank_axes=tuple(axis for axis in ranks if axis in present), sizes=sizes or None, **laws
    )  # fmt: skip


def _law(draw: random.Random, axes: list[str], zero: bool) -> Law:
    spread = draw.choice(["1", "0.5", "1/r", "1/sqrt(r)", *(f"1/sqrt({axis})" for axis in axes)])
    made: list[Law] = [rv.Gaussian(spread), rv.Gaussian(spread), rv.Uniform(spread), rv.Constant(spread), rv.KaimingUniform(axes[0])]
    if len(axes) == 2:
        made.append(rv.Orthonormal(spread))
    law = rv.Zero() if zero else draw.choice(made)
    return rv.frozen(law) if draw.random() < (0.05 if zero else 0.3) else law


def _claim(draw: random.Random, adapter: Adapter) -> dict[str, Any]:
    steps = draw.choice([0, 1, 1, 1, 2, 3])
    options = ["output", "input_gradient", "gradient_norm", *(f"gradient:{name}" for name in adapter.trainable)]
    quantity = draw.choice([*options, *(["update", "update", "loss_decrease"] if steps else [])])
    gradient = quantity.startswith("gradient")
    statistic = draw.choice(["rms", "rms", "frobenius"] if gradient else ["rms", "rms", "frobenius", "projection"])
    probe = draw.choice(["aligned", "aligned", "orthogonal", "cosine:0.5"]) if quantity in ("output", "update") else "aligned"
    return {
        "optimizer": _optimizer(draw), "quantity": quantity, "statistic": statistic, "probe": probe, "steps": steps,
        "regime": draw.choice(["rank", "rank", "width"]),
    }  # fmt: skip


def _optimizer(draw: random.Random) -> str:
    name = draw.choice(["sgd", "sgd", "sgd", "momentum", *rv.optimizers()])
    known = [key for key in OPTIONS if key in rv.optimizers()[name].defaults and not (name == "normalized-sgd" and key == "weight_decay")]
    given = [f"{key}={draw.choice(OPTIONS[key])}" for key in known if draw.random() < 0.2]
    return f"{name}:{','.join(given)}" if given else name
