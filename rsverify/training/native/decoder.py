"""A decoder of the Llama kind as the kernels take it: weights by what they do, whoever holds them, and what a pass of it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from rsverify.training.native import cost


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

    def bytes_each(self, *, rows: int, length: int, rank: int) -> int:
        """What one configuration keeps between its two passes: norms, heads, probabilities, feed-forward, the logits on top, and what each
        adapter of at most that rank makes on its way. Each worker needs room for a packed weight besides, of the head as a rule."""
        q, kv = self.heads * self.head_width, self.kv_heads * self.head_width
        keys = (length + 2 * self.lanes) / 2  # the causal half, in panels of two vectors of queries
        layer = rows * (4 * self.d + 2 * q + 2 * kv + 3 * self.ffn + self.heads * keys)
        shapes = [linear.weight.shape for block in self.blocks for linear in block.linears.values()]
        adapters = sum(
            d_out * d_in if cost.route(n=rows, d_in=d_in, d_out=d_out, r=rank, lanes=self.lanes) == "merged" else rows * rank
            for d_out, d_in in shapes
        )
        pass_by = rows * (self.vocabulary + 5 * self.d + q + 2 * max(self.ffn, q, 2 * kv))
        return int(self.embedding.element_size() * (len(self.blocks) * layer + pass_by + adapters))

    def other_cost(self, *, rows: int, length: int) -> float:
        """Time of a step of one configuration outside the linears, in the operations of `cost.times`: measured at d 64 and 128, 64
        and 512 tokens."""
        scores = 250 * self.heads * rows * length * (1 + 64 / length)
        return len(self.blocks) * (scores + rows * (300 * self.d + 195 * self.ffn)) + rows * self.vocabulary * (4 * self.d + 80)
