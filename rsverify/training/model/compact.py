"""The compact transformer as a decoder that the kernels take, where a task's passes are its own."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.training.model import decoder
from rsverify.training.model.decoder import Decoder
from rsverify.training.model.task import Task, compact_losses
from rsverify.training.model.transformer import Attention, Block, FeedForward, RMSNorm, Transformer

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
        return rotation_tables(tokens, config.head_width, config.rope_base, dtype)

    embedding = model.embedding.weight
    blocks = tuple(block(i, of) for i, of in enumerate(model.blocks))
    return Decoder("tokens", embedding, embedding, norm(model.norm), blocks, config.heads, config.kv_heads, rotation)


@lru_cache(maxsize=8)
def rotation_tables(tokens: int, width: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Tables cos and sin with which a head of one position is rotated, one angle for each half. Shapes: (tokens, width) each.

    The same angles as `transformer.rotate`.
    """
    half = width // 2
    frequency = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(tokens, dtype=torch.float64), frequency).repeat(1, 2)
    return angle.cos().to(dtype), angle.sin().to(dtype)
