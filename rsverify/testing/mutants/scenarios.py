"""Uses of an adapter in a real model: the pretrained base with one projection adapted, and how far its logits move.

Wrong and sound adapter go through the same use with the same draws; only the wrong piece can make a difference.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from rsverify.conformance import Subject
from rsverify.statistics.streams import stream
from rsverify.training.model.base import load_base
from rsverify.training.model.transformer import Attention, Block, Transformer, next_token_loss

Scenario = Callable[[Subject, nn.Linear], nn.Module]

RANK, ALPHA = 6, 20.0
TEXT = b"One small fault."


@cache
def model() -> Transformer:
    return load_base()


@cache
def tokens() -> Tensor:
    return torch.tensor(list(TEXT)).unsqueeze(0)


def attention() -> Attention:
    block = model().blocks[1]
    assert isinstance(block, Block)
    return block.attention


def layer() -> nn.Linear:
    """A copy of the base's second query projection: square, with a bias of zeros, so that biases and transposes can show."""
    W = attention().q.weight.detach()
    base = nn.Linear(W.shape[1], W.shape[0], dtype=W.dtype)
    with torch.no_grad():
        base.weight.copy_(W)
        base.bias.zero_()
    return base


@contextlib.contextmanager
def placed(module: nn.Module) -> Iterator[Transformer]:
    """The base with the module in the place of that projection."""
    kept, attention().q = attention().q, module  # type: ignore[assignment]
    try:
        yield model()
    finally:
        attention().q = kept


def logits(module: nn.Module) -> Tensor:
    with placed(module) as whole, torch.no_grad():
        return whole(tokens())


def effect(wrong: Subject, sound: Subject, when: Scenario) -> float:
    """|logits of wrong - logits of sound| / |logits of sound|; inf where only the wrong one raises or gives NaN."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        right = logits(when(sound, layer()))
        torch.manual_seed(0)
        try:
            found = logits(when(wrong, layer()))
        except Exception:
            return math.inf
    off = float((found - right).norm() / right.norm())
    return off if math.isfinite(off) else math.inf


def stir(module: nn.Module, name: str = "stir") -> nn.Module:
    """Every trained factor away from its init, as after training; the base layer is left alone."""
    with torch.no_grad():
        for key, factor in module.named_parameters():
            if factor.requires_grad and not key.startswith("base."):
                draw = torch.from_numpy(stream(0, name, key.rpartition(".")[2]).standard_normal(tuple(factor.shape))).to(factor)
                factor.add_(draw / (2 * math.sqrt(max(factor.shape[-1] if factor.ndim else 1, 1))))
    return module


def fresh(subject: Subject, base: nn.Linear) -> nn.Module:
    """As built."""
    return subject.build(RANK, base, ALPHA).eval()


def stirred(subject: Subject, base: nn.Linear) -> nn.Module:
    """Built, then used away from its init."""
    return stir(fresh(subject, base))


def at_rank(rank: int, when: Scenario) -> Scenario:
    """The same use at another rank."""

    def use(subject: Subject, base: nn.Linear) -> nn.Module:
        return when(replace(subject, build=lambda _, base, alpha: subject.build(rank, base, alpha)), base)

    return use


def in_training(subject: Subject, base: nn.Linear) -> nn.Module:
    """In training mode, without gradients."""
    return stirred(subject, base).train()


def used_before(subject: Subject, base: nn.Linear) -> nn.Module:
    """Called once at init, then trained, then used."""
    module = fresh(subject, base)
    logits(module)
    return stir(module)


def used_twice(subject: Subject, base: nn.Linear) -> nn.Module:
    """Called once before."""
    module = stirred(subject, base)
    logits(module)
    return module


def trained(subject: Subject, base: nn.Linear) -> nn.Module:
    """Two AdamW steps on the base's own loss."""
    module = subject.build(RANK, base, ALPHA).eval()
    able = [p for p in module.parameters() if p.requires_grad]
    if not able:
        return module
    optimizer = torch.optim.AdamW(able, lr=1e-2)
    for _ in range(2):
        with placed(module) as whole:
            loss = next_token_loss(whole(tokens()), tokens())
        if not loss.requires_grad:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module


def layer_below_trained(subject: Subject, base: nn.Linear) -> nn.Module:
    """One step of another layer's bias through the adapter's input gradient: the bias moves before the adapter."""
    module = stirred(subject, base)
    shift = nn.Parameter(torch.zeros(base.in_features, dtype=base.weight.dtype))
    with placed(Shifted(module, shift)) as whole:
        loss = next_token_loss(whole(tokens()), tokens())
    (gradient,) = torch.autograd.grad(loss, [shift])
    return Shifted(module, -30.0 * gradient)


class Shifted(nn.Module):
    """A module whose input has a bias."""

    def __init__(self, module: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.module, self.shift = module, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x + self.shift)


def merged(subject: Subject, base: nn.Linear) -> nn.Module:
    assert subject.merge is not None
    module = stirred(subject, base)
    subject.merge(module)
    return module


def exported(subject: Subject, base: nn.Linear) -> nn.Module:
    """The base layer alone after merging: what is shipped."""
    merged(subject, base)
    return base


def merged_twice(subject: Subject, base: nn.Linear) -> nn.Module:
    assert subject.merge is not None
    module = merged(subject, base)
    subject.merge(module)
    return module


def unmerged(subject: Subject, base: nn.Linear) -> nn.Module:
    """Merged at a user's scale of 1.7, taken out again, the adapter still on."""
    assert subject.set_scale is not None and subject.merge is not None and subject.unmerge is not None
    module = stirred(subject, base)
    subject.set_scale(module, 1.7)
    subject.merge(module)
    subject.unmerge(module)
    return module


def changed_while_merged(subject: Subject, base: nn.Linear) -> nn.Module:
    assert subject.merge is not None and subject.unmerge is not None
    module = merged(subject, base)
    stir(module, "again")
    subject.unmerge(module)
    return module


class Narrow(nn.Module):
    """A bfloat16 layer in a float64 model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.bfloat16()).to(x)


def merged_in_bf16(subject: Subject, base: nn.Linear) -> nn.Module:
    """Merged into a bfloat16 layer, with a trained difference of ordinary size."""
    return Narrow(merged(subject, base.bfloat16()))


def loaded(subject: Subject, base: nn.Linear) -> nn.Module:
    """Saved, then loaded on the same pretrained layer."""
    assert subject.save is not None and subject.load is not None
    saved = subject.save(stirred(subject, base))
    return subject.load(saved, layer()).eval()


def loaded_reordered(subject: Subject, base: nn.Linear) -> nn.Module:
    """As loaded, the file's keys in another order."""
    assert subject.save is not None and subject.load is not None
    saved = subject.save(stirred(subject, base))
    saved["tensors"] = dict(reversed(saved["tensors"].items()))
    return subject.load(saved, layer()).eval()


def loaded_scaled(subject: Subject, base: nn.Linear) -> nn.Module:
    """As loaded, with a user's scale of 1.7 in force when it was saved."""
    assert subject.set_scale is not None and subject.save is not None and subject.load is not None
    module = stirred(subject, base)
    subject.set_scale(module, 1.7)
    return subject.load(subject.save(module), layer()).eval()


def loaded_from_merged(subject: Subject, base: nn.Linear) -> nn.Module:
    assert subject.save is not None and subject.load is not None
    return subject.load(subject.save(merged(subject, base)), layer()).eval()


def loaded_later(subject: Subject, base: nn.Linear) -> nn.Module:
    """Saved, trained on, then the saved state is loaded."""
    assert subject.save is not None and subject.load is not None
    module = stirred(subject, base)
    saved = subject.save(module)
    stir(module, "again")
    return subject.load(saved, layer()).eval()


def loaded_and_trained(subject: Subject, base: nn.Linear) -> nn.Module:
    assert subject.save is not None and subject.load is not None
    load, saved = subject.load, subject.save(stirred(subject, base))
    return trained(Subject(lambda rank, base, alpha: load(saved, base)), layer())


def converted(subject: Subject, base: nn.Linear) -> nn.Module:
    assert subject.convert is not None and subject.load is not None
    return subject.load(subject.convert(stirred(subject, base)), layer()).eval()


def scaled(*scales: float) -> Scenario:
    """set_scale called with each in turn, the layer used in between."""

    def use(subject: Subject, base: nn.Linear) -> nn.Module:
        assert subject.set_scale is not None
        module = stirred(subject, base)
        for s in scales:
            logits(module)
            subject.set_scale(module, s)
        return module

    return use


def scaled_and_used(subject: Subject, base: nn.Linear) -> nn.Module:
    module = scaled(1.7)(subject, base)
    logits(module)
    return module


def two(subject: Subject, base: nn.Linear) -> nn.Module:
    """Two adapters, both trained, the first used."""
    assert subject.add_adapter is not None and subject.set_adapter is not None
    module = stirred(subject, base)
    subject.add_adapter(module, "second", RANK, ALPHA)
    subject.set_adapter(module, "second")
    stir(module, "second")
    subject.set_adapter(module, "default")
    return module


def second(subject: Subject, base: nn.Linear) -> nn.Module:
    """Two adapters, both trained, the second used."""
    module = two(subject, base)
    assert subject.set_adapter is not None
    subject.set_adapter(module, "second")
    return module


def second_scaled(subject: Subject, base: nn.Linear) -> nn.Module:
    module = second(subject, base)
    assert subject.set_scale is not None
    subject.set_scale(module, 1.7)
    return module


def second_merged(subject: Subject, base: nn.Linear) -> nn.Module:
    module = second(subject, base)
    assert subject.merge is not None
    subject.merge(module)
    return module


def second_loaded(subject: Subject, base: nn.Linear) -> nn.Module:
    module = second(subject, base)
    assert subject.save is not None and subject.load is not None
    return subject.load(subject.save(module), layer()).eval()


def second_on_merged(subject: Subject, base: nn.Linear) -> nn.Module:
    """A second adapter added while the first is merged, then used alone."""
    assert subject.add_adapter is not None and subject.set_adapter is not None and subject.unmerge is not None
    module = merged(subject, base)
    subject.add_adapter(module, "second", RANK, ALPHA)
    subject.unmerge(module)
    subject.set_adapter(module, "second")
    return module


def switched_and_trained(subject: Subject, base: nn.Linear) -> nn.Module:
    """To the second adapter and back, then trained."""
    module = two(subject, base)
    return trained(Subject(lambda rank, base, alpha: module), base)


def combined(*weights: float) -> Scenario:
    def use(subject: Subject, base: nn.Linear) -> nn.Module:
        module = two(subject, base)
        assert subject.combine is not None and subject.set_adapter is not None
        name = subject.combine(module, ["default", "second"][: len(weights)], list(weights))
        subject.set_adapter(module, name)
        return module

    return use


def redistributed(rank: int) -> Scenario:
    def use(subject: Subject, base: nn.Linear) -> nn.Module:
        module = stirred(subject, base)
        assert subject.redistribute is not None
        subject.redistribute(module, rank)
        return module

    return use


def redistributed_and_scaled(subject: Subject, base: nn.Linear) -> nn.Module:
    module = redistributed(9)(subject, base)
    assert subject.set_scale is not None
    subject.set_scale(module, 1.0)
    return module


def redistributed_and_loaded(subject: Subject, base: nn.Linear) -> nn.Module:
    """Another rank, saved, then loaded on the same pretrained layer."""
    module = redistributed(9)(subject, base)
    assert subject.save is not None and subject.load is not None
    return subject.load(subject.save(module), layer()).eval()


def restored(subject: Subject, base: nn.Linear) -> nn.Module:
    """The state dict, keys in reverse order, read into a fresh layer."""
    state = stirred(subject, base).state_dict()
    module = fresh(subject, layer())
    module.load_state_dict(dict(reversed(list(state.items()))))
    return module
