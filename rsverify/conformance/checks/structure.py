"""Which function is computed, on which layer, by which parameters: at init and away from it."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import LAYERS, TALL, Bench, close, named
from rsverify.conformance.registry import Skip, Wrong, check


@check()
def check_build_module(bench: Bench) -> str | None:
    """The subject can be built and called on a layer, on the CPU."""
    built = bench.build()
    y = built(bench.x(TALL))
    if y.shape != (5, TALL.d_out):
        raise Wrong(f"a layer of {TALL.d_in} inputs returns shape {tuple(y.shape)} for 5 rows; expected (5, {TALL.d_out})")
    if built.module is built.base and not built.factors():
        raise Wrong("build returned the base layer itself, with no trained factor on it: nothing is adapted")
    remarks = [] if bench.dtype is torch.float64 else ["it cannot compute in float64: checked in float32"]
    if len(bench.ranks) < 2:
        remarks.append(f"it can be built at rank {bench.rank} only")
    return "; ".join(remarks) or None


@check()
def check_init_identity(bench: Bench) -> str | None:
    """An adapter that claims to add nothing at init adds nothing, on every shape of layer and at every rank."""
    if bench.subject.claim == "random":
        raise Skip("it is declared to add something at init")
    for layer in LAYERS:
        for rank in bench.ranks:
            built = bench.build(layer, rank)
            x = bench.x(layer)
            found, expected = built(x), built.base_output(x)
            if not close(found, expected, built):
                off = float((found - expected).norm() / expected.norm())
                raise Wrong(
                    f"at init the {layer.text} layer of rank {rank} is off the pretrained one by {off:.2g} of its output: the last"
                    " factor must be zero, or its product taken off the base weight with the same scale"
                )
    return None


@check()
def check_base_frozen(bench: Bench) -> str | None:
    """The base layer's weight and bias are the pretrained ones bit for bit after building, a backward pass and steps."""
    built = bench.build()
    residual = bench.subject.claim == "residual"
    W = built.base.weight.detach().clone() if residual else built.W
    trainable = [name for name, p in built.base.named_parameters() if p.requires_grad]
    if trainable:
        raise Wrong(
            f"the base layer's {named(trainable)} still require gradients after build: the optimizer will move the pretrained layer;"
            " freeze it"
        )
    bench.stir(built)
    for optimizer in (torch.optim.SGD, torch.optim.AdamW):
        steps = optimizer([p for p in built.module.parameters() if p.requires_grad], lr=0.1)
        built.module(bench.x(TALL)).square().sum().backward()
        steps.step()
    for name, now, before in (("weight", built.base.weight, W), ("bias", built.base.bias, built.b)):
        if before is not None and not torch.equal(now, before):
            raise Wrong(
                f"the base layer's {name} has changed by up to {float((now - before).abs().max()):.3g} after building and two steps"
            )
    return None
