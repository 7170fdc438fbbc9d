"""How the layer is built: the pretrained function at init, a frozen base, the declared factors, no shared state."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import LAYERS, TALL, Bench, close, named, tensors
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.registry import check
from rsverify.definitions.optimizers import as_optimizer
from rsverify.training.optimizers import STEPS

OTHER_LAYERS = {
    **dict.fromkeys(("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"), "a convolution"),
    **dict.fromkeys(("num_embeddings", "embedding_dim", "padding_idx"), "an embedding"),
    **dict.fromkeys(("nf", "nx"), "a Conv1D of transformers"),
}
"""What a build function that asks an nn.Linear for these attributes was written for."""


@check("structure")
def check_build_module(bench: Bench) -> str | None:
    """The subject can be built and called on a layer, on the CPU."""
    try:
        built = bench.build()
    except AttributeError as error:
        kind = next((kind for words, kind in OTHER_LAYERS.items() if f"'Linear' object has no attribute '{words}'" in str(error)), None)
        if kind is None:
            raise
        raise Wrong(f"build adapts {kind}, and the suite hands it linear layers: it judges adapters of nn.Linear only") from error
    except (RuntimeError, AssertionError) as error:
        if isinstance(error, Wrong) or not any(word in str(error).lower() for word in ("cuda", "nvidia", "hip gpu", "xpu", "mps")):
            raise
        raise Wrong(f"build needs a GPU: {error}; put the factors on base.weight.device") from error
    y = built(bench.x(TALL))
    if y.shape != (5, TALL.d_out):
        raise Wrong(f"a layer of {TALL.d_in} inputs returns shape {tuple(y.shape)} for 5 rows; expected (5, {TALL.d_out})")
    if built.module is built.base and not built.factors():
        raise Wrong("build returned the base layer itself, with no trained factor on it: nothing is adapted")
    remarks = [] if bench.dtype is torch.float64 else ["it cannot compute in float64: checked in float32"]
    if len(bench.ranks) < 2:
        remarks.append(f"it can be built at rank {bench.rank} only")
    return "; ".join(remarks) or None


@check("structure")
def check_build_repeatable(bench: Bench) -> str | None:
    """Two builds from the same seed of torch hold the same tensors and compute the same function."""
    one, two = bench.build(), bench.build()
    first, second = tensors(one.module), tensors(two.module)
    if [(n, v.shape) for n, v in first.items()] != [(n, v.shape) for n, v in second.items()]:
        raise Wrong("two builds with the same arguments hold tensors of other names or shapes")
    differ = [name for name, value in first.items() if not torch.equal(value, second[name])]
    x = bench.x(TALL)
    if differ or not torch.equal(one(x), two(x)):
        what = f"{named(differ)} differ" if differ else "the outputs differ"
        raise Wrong(f"two builds from the same torch seed are not the same: {what}; is init drawn from another generator?")
    return None


@check("structure")
def check_build_isolated(bench: Bench) -> str | None:
    """Moving the factors of one layer leaves another layer alone, and two layers do not start from the same draw."""
    one, two = bench.build(draw=1, which=1), bench.build(draw=2, which=2)
    x = bench.x(TALL)
    before = two(x)
    mine = dict(one.factors())
    same = [
        name for name, value in two.factors().items()
        if value.numel() > 1 and name in mine and torch.equal(value, mine[name]) and bool((value != value.flatten()[0]).any())
    ]  # fmt: skip
    bench.stir(one)
    one(x)
    if not torch.equal(two(x), before):
        raise Wrong("moving the factors of one adapted layer changed the output of another: they share tensors or class-level state")
    if same:
        raise Wrong(
            f"two layers built from different seeds start from the same draw of {named(same)}: the generator is seeded in every build"
        )
    return None


@check("structure")
def check_build_rank_one(bench: Bench) -> str | None:
    """Rank 1 can be built and called."""
    built = bench.build(TALL, 1)
    bench.stir(built)
    if not torch.isfinite(built(bench.x(TALL))).all():
        raise Wrong("at rank 1 the output is not finite")
    return None


@check("structure")
def check_rank_used(bench: Bench) -> str | None:
    """Another rank makes other tensors."""
    if len(bench.ranks) < 2:
        raise Skip(f"it can be built at rank {bench.rank} only")
    if all(bench.full_at(rank) is not None for rank in bench.ranks):
        raise Skip(f"at ranks {bench.ranks[0]} and {bench.ranks[1]} full matrices stand in, as declared: they have no rank")
    one, two = ([value.shape for value in bench.build(TALL, rank).own().values()] for rank in bench.ranks)
    if one == two:
        shapes = ", ".join(str(tuple(shape)) for shape in one)
        raise Wrong(f"ranks {bench.ranks[0]} and {bench.ranks[1]} make tensors of the same shapes ({shapes}): build ignores its rank")
    return None


@check("structure")
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


@check("structure")
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
    # Steps of our own: torch.optim imports torch's compiler, which costs a second.
    for name in ("sgd", "adamw"):
        moving = [p for p in built.module.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(built.module(bench.x(TALL)).square().sum(), moving, allow_unused=True)
        with torch.no_grad():
            for p, g in zip(moving, gradients, strict=True):
                if g is not None:
                    p -= 0.1 * STEPS[name](as_optimizer(name), g, p, {}, 1)
    for name, now, before in (("weight", built.base.weight, W), ("bias", built.base.bias, built.b)):
        if before is not None and not torch.equal(now, before):
            raise Wrong(
                f"the base layer's {name} has changed by up to {float((now - before).abs().max()):.3g} after building and two steps"
            )
    return None


@check("structure")
def check_factors_trained(bench: Bench) -> str | None:
    """Exactly the declared factors are trained: as many entries as the declaration counts, none of the base layer's."""
    declared = bench.subject.declared
    for rank in bench.ranks:
        built = bench.build(TALL, rank)
        trained = built.trained()
        if not trained:
            raise Wrong("no parameter of the module requires gradients: nothing trains")
        extra = sorted(set(trained) - set(built.factors()))
        if extra:
            raise Wrong(f"{named(extra)} of the base layer would be trained")
        if declared is None:
            continue
        full = bench.full_at(rank)
        counted = declared if full is None else full.adapter
        found, expected = sum(p.numel() for p in trained.values()), counted.parameters(rank, TALL.d_in, TALL.d_out)
        if found != expected:
            shapes = ", ".join(f"{name} {tuple(p.shape)}" for name, p in trained.items())
            raise Wrong(
                f"{found} entries are trained at rank {rank} ({shapes}); {counted.name} trains {expected}"
                f" ({', '.join(counted.trainable)}): a frozen factor trains, or a trained one is frozen"
            )
    return None if declared else "which factors should train is not declared (init=): the base layer's do not"


@check("structure")
def check_factors_finite(bench: Bench) -> str | None:
    """No tensor holds NaN or infinity at init, and a row of zeros in the pretrained weight makes none in the output."""
    for rank in (1, *bench.ranks) if bench.ranks[0] > 1 else bench.ranks:
        try:
            built = bench.build(TALL, rank)
        except Exception:
            if rank == 1:
                continue  # check_build_rank_one says so
            raise
        bad = [name for name, value in tensors(built.module).items() if value.is_floating_point() and not torch.isfinite(value).all()]
        if bad:
            raise Wrong(f"at init {named(bad)} of rank {rank} holds NaN or infinity: memory that was never written?")
    built = bench.build(zero_row=True)
    for when in ("at init", "away from init"):
        if not torch.isfinite(built(bench.x(TALL))).all():
            raise Wrong(f"{when} the output is not finite where a row of the pretrained weight is zero: 0/0 in a norm")
        bench.stir(built)
    return None


@check("structure")
def check_state_order(bench: Bench) -> str | None:
    """The state dict may be read in any order of its keys."""
    built, fresh = bench.trained(), bench.build()
    state = dict(reversed(list(built.module.state_dict().items())))
    fresh.module.load_state_dict(state)
    if not close(built(bench.x(TALL)), fresh(bench.x(TALL)), built):
        raise Wrong("a state dict read into a fresh layer, keys in reverse order, does not give the same function")
    return None
