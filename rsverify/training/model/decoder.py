"""A decoder of the Llama kind: weights by what they do, whoever holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Norm:
    """A root-mean-square norm. Shapes: weight (d,)."""

    weight: Tensor
    epsilon: float


@dataclass(frozen=True)
class Linear:
    """A frozen linear by its name in the model that holds it. Shapes: weight (d_out, d_in)."""

    name: str
    weight: Tensor


@dataclass(frozen=True)
class Block:
    """Attention and feed-forward, each behind a norm: `linears` by the names of `transformer.LINEARS`."""

    attention_norm: Norm
    feed_forward_norm: Norm
    linears: Mapping[str, Linear]


@dataclass(frozen=True)
class Decoder:
    """Causal attention with grouped queries on rotated heads, gated feed-forward, root-mean-square norms, and the mean loss of next tokens.

    Args: tokens is their name in a batch; rotation gives the tables cos and sin of a length, each (length, head width), one angle for
        each half of a head; scores are divided by the root of the head width; lanes are the numbers in a vector of the kernels that serve.

    Shapes: embedding, head (vocabulary, d).
    """

    tokens: str
    embedding: Tensor
    head: Tensor
    norm: Norm
    blocks: tuple[Block, ...]
    heads: int
    kv_heads: int
    rotation: Callable[[int], tuple[Tensor, Tensor]]
    lanes: int = 16

    @property
    def d(self) -> int:
        return self.embedding.shape[1]

    @property
    def vocabulary(self) -> int:
        return self.embedding.shape[0]

    @property
    def ffn(self) -> int:
        return self.blocks[0].linears["gate"].weight.shape[0]

    @property
    def head_width(self) -> int:
        return self.blocks[0].linears["q"].weight.shape[0] // self.heads
