"""Which gradients reach what: all factors, the input, and with the right values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rsverify.conformance.bench import TALL, Bench, Built, close, named, tolerance
from rsverify.conformance.diagnose import explain
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.reference import algebra
from rsverify.conformance.registry import check
from rsverify.definitions.adapter import Adapter


def _gradients(bench: Bench, built: Built, x: Tensor, v: Tensor) -> tuple[dict[str, Tensor | None], Tensor]:
    """Gradients of v . f(x) in every factor and in x: in training mode, but in evaluation mode where training draws (dropout)."""
    built.module.train(not bench.draws_in_training)
    x = x.clone().requires_grad_()
    names, factors = list(built.factors()), list(built.factors().values())
    found = torch.autograd.grad((built.module(x) * v).sum(), [*factors, x], allow_unused=True)
    if found[-1] is None:
        raise Wrong("no gradient reaches the input: the layers below would not train")
    return dict(zip(names, found[:-1], strict=True)), found[-1]


@check("structure")
def check_gradient_reaches(bench: Bench) -> str | None:
    """Away from init a gradient reaches every trained factor, and at init at least one."""
    x, built = bench.x(TALL), bench.build()
    v = bench.v(TALL)
    for when in ("at init", "away from init"):
        found, _ = _gradients(bench, built, x, v)
        none = [name for name, g in found.items() if g is None or not g.any()]
        if when == "at init" and len(none) == len(found):
            raise Wrong(f"at init no gradient reaches any factor ({named(none)}): two factors are zero at once, or the graph is cut")
        if when == "away from init" and none:
            raise Wrong(f"no gradient reaches {named(none)}: detached, built under no_grad, or never used")
        bad = [name for name, g in found.items() if g is not None and not torch.isfinite(g).all()]
        if bad:
            raise Wrong(f"{when} the gradient of {named(bad)} is not finite")
        bench.stir(built)
    return None


@check("structure")
def check_gradient_input(bench: Bench) -> str | None:
    """The gradient in the input is the transposed weight times the gradient in the output, adapter included."""
    built = bench.trained()
    W, _ = bench.require_linear(built)
    v = bench.v(TALL)
    _, found = _gradients(bench, built, bench.x(TALL), v)
    if not close(found, v @ W, built):
        left_out = close(found, v @ built.W, built)
        why = "the adapter's part is left out" if left_out else f"off by {float((found - v @ W).norm() / found.norm()):.2g} of itself"
        raise Wrong(f"the gradient in the input is not that of the layer's own function: {why}")
    return None


@check("structure")
def check_gradient_factors(bench: Bench) -> str | None:
    """The gradient in every factor in which the output is linear is exactly what moving that factor does."""
    built = bench.trained()
    x, v = bench.x(TALL), bench.v(TALL)
    found, _ = _gradients(bench, built, x, v)
    ratios, checked = {}, []
    for name, factor in built.factors().items():
        gradient = found[name]
        if gradient is None:
            continue  # check_gradient_reaches says so
        d = bench.like(factor, name)
        values = []
        kept = factor.detach().clone()
        for k in range(3):
            with torch.no_grad():
                factor.copy_(kept + k * d)
            values.append(built(x))
        with torch.no_grad():
            factor.copy_(kept)
        if not close(values[2] - values[1], values[1] - values[0], built):
            continue  # not linear in this factor: no exact difference to compare with (a norm may be a constant by design)
        checked.append(name)
        real, said = float(((values[1] - values[0]) * v).sum()), float((gradient * d).sum())
        # The sums run over 5 rows and all outputs, each known to the tolerance of the function.
        if abs(real - said) > 4 * tolerance(built, *values) * float(v.abs().sum()) + 1e-6 * abs(real):
            ratios[name] = said / real
    if ratios:
        name, value = next(iter(ratios.items()))
        factor = explain({(built.rank, built.alpha): value}, tolerance=1e-4)
        raise Wrong(f"the gradient of {name} is not the derivative of the output: gradient/derivative is {factor}")
    if not checked:
        raise Skip("the output is linear in none of its factors: no exact difference to compare the gradient with")
    return None


@check("structure")
def check_gradient_reference(bench: Bench) -> str | None:
    """Where a declared adapter is not linear in its factors, their gradients are those of the declaration."""
    held = algebra(bench)
    if isinstance(held.adapter, Adapter):
        raise Skip("multilinear: check_gradient_factors holds its gradients to exact differences")
    built = bench.trained()
    x, v = bench.x(TALL), bench.v(TALL)
    found, _ = _gradients(bench, built, x, v)
    expected = torch.autograd.grad((nn.functional.linear(x.double(), held.weight(built, bench.gamma(built.rank))) * v.double()).sum(),
                                   [built.factors()[held.places[name].name] for name in held.adapter.trainable])  # fmt: skip
    for name, gradient in zip(held.adapter.trainable, expected, strict=True):
        said = found[held.places[name].name]
        if said is None or not close(said, gradient.to(said.dtype), built):
            off = 1.0 if said is None else float((said - gradient).norm() / gradient.norm())
            raise Wrong(f"the gradient of {name} is off that of {held.adapter.name} by {off:.2g} of itself: is a norm a constant there?")
    return None
