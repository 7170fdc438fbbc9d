"""A compact causal transformer of the Llama kind: RMSNorm, rotary embedding, grouped-query attention, SwiGLU.

Every operation runs in the dtype of its input, so that float64 means float64 end to end (library implementations
compute norms and softmax in float32 whatever they are given).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LINEARS = ("q", "k", "v", "o", "gate", "up", "down")
"""The seven linears of a block, in the order in which data meets them."""


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a `Transformer`: `d` model width, `ffn` width of the feed-forward, `vocabulary` 256 for bytes."""

    d: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 344
    vocabulary: int = 256
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if self.d % self.heads or (self.d // self.heads) % 2:
            raise ValueError(f"d={self.d} must split into heads={self.heads} of even width (rotary pairs)")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} must be a multiple of kv_heads={self.kv_heads}")

    @property
    def head_width(self) -> int:
        return self.d // self.heads

    def to_dict(self) -> dict[str, int | float]:
        return asdict(self)


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in the dtype of x."""

    def __init__(self, d: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


def rotate(x: Tensor, base: float) -> Tensor:
    """Rotary position embedding of `x` (..., tokens, head width)."""
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(x.shape[-2], device=x.device, dtype=torch.float64), frequency)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Causal grouped-query attention."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.head_width
        self.q = nn.Linear(config.d, config.heads * width, bias=False)
        self.k = nn.Linear(config.d, config.kv_heads * width, bias=False)
        self.v = nn.Linear(config.d, config.kv_heads * width, bias=False)
        self.o = nn.Linear(config.heads * width, config.d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        config = self.config
        q, k, v = (
            linear(x).unflatten(-1, (heads, config.head_width)).transpose(-3, -2)
            for linear, heads in ((self.q, config.heads), (self.k, config.kv_heads), (self.v, config.kv_heads))
        )
        q, k = rotate(q, config.rope_base), rotate(k, config.rope_base)
        group = config.heads // config.kv_heads
        k, v = k.repeat_interleave(group, dim=-3), v.repeat_interleave(group, dim=-3)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(mixed.transpose(-3, -2).flatten(-2))


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d, config.ffn, bias=False)
        self.up = nn.Linear(config.d, config.ffn, bias=False)
        self.down = nn.Linear(config.ffn, config.d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and beside the residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d, config.norm_epsilon)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.d, config.norm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Transformer(nn.Module):
    """Tokens to next-token logits, embedding and head tied.

    Shapes: `tokens` (..., T) integers; logits (..., T, vocabulary).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.d, config.norm_epsilon)
        self.reset()

    def reset(self) -> None:
        """Gaussian weights of std 0.02 for the embedding and 1/sqrt(d_in) elsewhere, the two residual writers shrunk by depth."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                std = 0.02 if name.startswith("embedding") else parameter.shape[1] ** -0.5
                if name.endswith(("o.weight", "down.weight")):
                    std /= (2 * self.config.layers) ** 0.5
                nn.init.normal_(parameter, std=std)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)


def next_token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of each next token, in nats and in the dtype of the logits."""
    return F.cross_entropy(logits[..., :-1, :].flatten(0, -2), tokens[..., 1:].flatten())
