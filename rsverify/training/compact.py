"""Forward and backward of the compact transformer for many configurations, written out by hand: no autograd, no node per operation.

`Transformer.forward` says what is computed, this says how it is computed cheaply; every test of stacked training holds the two
against each other through a reference that runs on autograd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.training import attention, directlinear
from rsverify.training.attention import Heads, Kept
from rsverify.training.autograd.block_linear import Pass
from rsverify.training.directlinear import Used
from rsverify.training.model.task import Task, compact_losses
from rsverify.training.model.transformer import Attention, Block, FeedForward, RMSNorm, Transformer
from rsverify.training.native import decoder
from rsverify.training.native.decoder import Decoder
from rsverify.training.products import times

KNOWN: tuple[type, ...] = (Transformer, nn.ModuleList, nn.Embedding, Block, RMSNorm, Attention, FeedForward, nn.Linear)


def applies(task: Task, *, dtype: torch.dtype) -> bool:
    """Whether this pass computes what the task's model and loss do: the compact transformer itself, untouched, on a CPU."""
    model = task.model
    weight = next(model.parameters())
    return (
        task.losses is compact_losses
        and type(model) is Transformer
        and all(type(module) in KNOWN and not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
        and weight.device.type == "cpu"
        and weight.dtype == dtype
        and dtype in (torch.float32, torch.float64)
    )


def as_decoder(task: Task, dtype: torch.dtype) -> Decoder | None:
    """The compact transformer of a task as the native kernels take it; None where this pass would not compute what the task does."""
    model = task.model
    if not applies(task, dtype=dtype):
        return None
    assert isinstance(model, Transformer)
    config = model.config

    def norm(of: Any) -> decoder.Norm:
        return decoder.Norm(of.weight, of.epsilon)

    def block(i: int, of: Any) -> decoder.Block:
        parts = {"attention": of.attention, "feed_forward": of.feed_forward}
        linears = {
            name: decoder.Linear(f"blocks.{i}.{part}.{name}", linear.weight)
            for part, module in parts.items()
            for name, linear in module.named_children()
        }
        return decoder.Block(norm(of.attention_norm), norm(of.feed_forward_norm), linears)

    def rotation(tokens: int) -> tuple[Tensor, Tensor]:
        return attention.rotation(tokens, config.head_width, config.rope_base, dtype)[:2]

    embedding = model.embedding.weight
    blocks = tuple(block(i, of) for i, of in enumerate(model.blocks))
    return Decoder("tokens", embedding, embedding, norm(model.norm), blocks, config.heads, config.kv_heads, rotation)


def bytes_each(model: Transformer, *, rows: int, length: int, itemsize: int) -> int:
    """What one configuration keeps between its two passes: norms, heads, probabilities, feed-forward, and the logits on top."""
    c = model.config
    kv = c.kv_heads * c.head_width
    layer = 6 * c.d + 2 * kv + 4 * c.ffn + c.heads * length
    return rows * itemsize * (c.layers * layer + 2 * c.vocabulary + 4 * c.d)


def other_cost(model: Transformer, *, rows: int, length: int) -> float:
    """Time of a step of one configuration outside the linears, in the operations of `cost.product_time`: measured at d 64 and 128."""
    c = model.config
    scores = c.heads * rows * length
    score = (14 if length < attention.BLOCK else 7) * c.head_width + 120
    return c.layers * (scores * score + 150 * rows * (8 * c.d + 3 * c.ffn)) + rows * c.vocabulary * (2 * c.d + 150)


@dataclass
class Norm:
    """Shapes: unit (copies, n, d), the rows of rms one; inverse (copies, n, 1), one over their rms before."""

    unit: Tensor
    inverse: Tensor
    weight: Tensor


@dataclass
class Layer:
    """What a block keeps for its way back."""

    first: Norm
    q: Used
    k: Used
    v: Used
    attention: Kept
    o: Used
    second: Norm
    gate: Used
    up: Used
    silu: Tensor
    gated: Tensor
    upward: Tensor
    down: Used


@torch.no_grad()
def gradients(model: Transformer, run: Pass, tokens: Tensor) -> Tensor:
    """The loss of every copy; the gradients of its factors go into the flat buffers. Shapes: tokens (copies * sequences, T); (copies,)."""
    for part in run.parts:
        part.group.scale(part.rows)
    config, copies, length = model.config, run.copies, tokens.shape[1]
    at = Heads(config.heads, config.kv_heads, config.head_width, config.rope_base)
    x = F.embedding(tokens, model.embedding.weight).view(copies, -1, config.d)
    layers = [_forward(run, f"blocks.{i}", block, x, at, length) for i, block in enumerate(model.blocks)]  # type: ignore[arg-type]
    h, last = _norm(x, model.norm)
    losses, signal = _cross_entropy(times(h.view(-1, config.d), model.embedding.weight), tokens, copies)
    dh = times(signal, model.embedding.weight.t()).view(h.shape)
    dx = _norm_back(dh, h, last, None)
    for i in reversed(range(len(layers))):
        dx = _backward(run, layers.pop(), dx, at, length, further=i > 0)
    if run.probe and run.norms:
        run.output_square += torch.stack(run.norms).square_().sum(0)
        run.norms.clear()
    return losses


def _forward(run: Pass, name: str, block: Block, x: Tensor, at: Heads, length: int) -> Layer:
    """One block; `x` is moved in place."""
    inner, feed = block.attention, block.feed_forward
    h, first = _norm(x, block.attention_norm)
    q, used_q = directlinear.forward(run, f"{name}.attention.q", inner.q.weight, h)
    k, used_k = directlinear.forward(run, f"{name}.attention.k", inner.k.weight, h)
    v, used_v = directlinear.forward(run, f"{name}.attention.v", inner.v.weight, h)
    mixed, kept = attention.forward(*(z.view(-1, z.shape[2]) for z in (q, k, v)), at=at, tokens=length)
    y, used_o = directlinear.forward(run, f"{name}.attention.o", inner.o.weight, mixed.view(q.shape))
    x += y
    h, second = _norm(x, block.feed_forward_norm)
    gated, used_gate = directlinear.forward(run, f"{name}.feed_forward.gate", feed.gate.weight, h)
    upward, used_up = directlinear.forward(run, f"{name}.feed_forward.up", feed.up.weight, h)
    silu = F.silu(gated)
    y, used_down = directlinear.forward(run, f"{name}.feed_forward.down", feed.down.weight, silu * upward)
    x += y
    return Layer(first, used_q, used_k, used_v, kept, used_o, second, used_gate, used_up, silu, gated, upward, used_down)


def _backward(run: Pass, layer: Layer, dx: Tensor, at: Heads, length: int, *, further: bool) -> Tensor:
    """Signal before a block from that behind it, in place; left as it is where no layer lies `further` down."""
    da = _through(run, layer.down, dx)
    dup = da * layer.silu
    dgate = torch.ops.aten.silu_backward(da.mul_(layer.upward), layer.gated)
    dh = _through(run, layer.up, dup)
    dh = _through(run, layer.gate, dgate, dh)
    dx = _norm_back(dh, layer.gate.X, layer.second, dx)
    dmixed = _through(run, layer.o, dx)
    dq, dk, dv = attention.backward(dmixed.view(-1, dmixed.shape[2]), layer.attention, at=at, tokens=length)
    found: Tensor | None = None
    for used, signal in ((layer.q, dq), (layer.k, dk), (layer.v, dv)):
        found = directlinear.backward(run, used, signal.view(run.copies, -1, signal.shape[1]), into=found, back=further)
    return dx if found is None else _norm_back(found, layer.q.X, layer.first, dx)


def _through(run: Pass, used: Used, signal: Tensor, into: Tensor | None = None) -> Tensor:
    found = directlinear.backward(run, used, signal, into=into, back=True)
    assert found is not None
    return found


def _norm(x: Tensor, norm: Any) -> tuple[Tensor, Norm]:
    inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(norm.epsilon).rsqrt_()
    unit = x * inverse
    return unit * norm.weight, Norm(unit, inverse, norm.weight)


def _norm_back(dh: Tensor, h: Tensor, norm: Norm, into: Tensor | None) -> Tensor:
    """inverse * (w dh - unit mean(w dh unit)), added to `into`; `dh` is used up. Note that w unit = h."""
    along = (dh * h).sum(-1, keepdim=True)
    inner = dh.mul_(norm.weight).addcmul_(norm.unit, along, value=-1.0 / h.shape[-1])
    return inner.mul_(norm.inverse) if into is None else into.addcmul_(inner, norm.inverse)


def _cross_entropy(logits: Tensor, tokens: Tensor, copies: int) -> tuple[Tensor, Tensor]:
    """Mean loss of each copy's next tokens, and the signal of the logits. Shapes: logits (rows, vocabulary); (copies,), as logits."""
    sequences, length = tokens.shape
    log = torch.log_softmax(logits, -1).view(sequences, length, -1)
    nexts = tokens[:, 1:, None]
    losses = -log[:, :-1].gather(2, nexts).view(copies, -1).mean(1)
    share = copies / (sequences * (length - 1))
    signal = log.exp_().mul_(share)
    signal[:, -1].zero_()  # nothing follows the last token
    signal[:, :-1].scatter_add_(2, nexts, signal.new_full((1, 1, 1), -share).expand(nexts.shape))
    return losses, signal.view(-1, signal.shape[2])
