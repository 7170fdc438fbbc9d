"""Causal attention with grouped queries, forward and backward, on rotated heads: products, one softmax, no autograd.

Queries that share a head of keys are rows of one product. Long sequences go through in blocks of queries, each of which sees the
keys up to its own end only, which leaves out most of the half that the mask would throw away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from rsverify.training.products import batched, times

BLOCK = 256
"""Queries of a block. At 512 tokens two blocks leave out a quarter of the square; four left out more and took as long."""


@dataclass(frozen=True)
class Heads:
    """How widths split into heads: `heads` of queries over `kv` of keys and values, each of `width`; `base` is that of the rotation."""

    heads: int
    kv: int
    width: int
    base: float


@dataclass
class Kept:
    """What the backward pass needs. Shapes: q, k, v (kv heads of all sequences, rows, width); P one (.., block rows, keys) a block."""

    q: Tensor
    k: Tensor
    v: Tensor
    P: list[Tensor]


@lru_cache(maxsize=8)
def rotation(tokens: int, width: int, base: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Tables with which a head z of one position is rotated: z * cos + (z S) * sin, S the signed swap of the two halves.

    Shapes: cos, sin (tokens, width), S' (width, width). The same angles as `transformer.rotate`.
    """
    half = width // 2
    frequency = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(tokens, dtype=torch.float64), frequency).repeat(1, 2)
    swap = torch.zeros(width, width, dtype=dtype)
    index = torch.arange(half)
    swap[index, index + half], swap[index + half, index] = -1.0, 1.0  # first half takes minus the second, second half the first
    return angle.cos().to(dtype), angle.sin().to(dtype), swap


def forward(q: Tensor, k: Tensor, v: Tensor, *, at: Heads, tokens: int) -> tuple[Tensor, Kept]:
    """What attention hands to its output linear, and what the way back needs.

    Shapes: q (rows, heads * width), k and v (rows, kv * width), rows = sequences * tokens; result as q.
    """
    cos, sin, swap = rotation(tokens, at.width, at.base, q.dtype)
    group = at.heads // at.kv
    scale = at.width**-0.5
    qh = _rotate(_split(q, at.heads, at.width, tokens), cos * scale, sin * scale, swap).view(-1, group * tokens, at.width)
    kh = _rotate(_split(k, at.kv, at.width, tokens), cos, sin, swap).view(-1, tokens, at.width)
    vh = _split(v, at.kv, at.width, tokens).view(-1, tokens, at.width)
    out, kept = torch.empty_like(qh), Kept(qh, kh, vh, [])
    for pairs in _pairs(kh.shape[0], tokens):
        for lo, hi in _blocks(tokens):
            S = batched(_queries(qh[pairs], lo, hi, tokens), kh[pairs, :hi].mT)
            S.view(-1, hi - lo, hi)[:, :, lo:].add_(_mask(hi - lo, q.dtype))
            P = torch.softmax(S, -1)
            del S
            _queries_of(out[pairs], lo, hi, tokens, batched(P, vh[pairs, :hi]))
            kept.P.append(P)
    return _join(out.view(-1, at.heads, tokens, at.width)), kept


def backward(signal: Tensor, kept: Kept, *, at: Heads, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Signals of q, k and v from that of the result; `kept` is used up."""
    cos, sin, swap = rotation(tokens, at.width, at.base, signal.dtype)
    scale = at.width**-0.5
    qh, kh, vh = kept.q, kept.k, kept.v
    do = _split(signal, at.heads, at.width, tokens).view(qh.shape)
    dq, dk, dv = torch.empty_like(qh), _Summed(kh), _Summed(vh)
    P_of = iter(kept.P)
    for pairs in _pairs(kh.shape[0], tokens):
        for lo, hi in _blocks(tokens):
            P, mine, dmine = next(P_of), _queries(qh[pairs], lo, hi, tokens), _queries(do[pairs], lo, hi, tokens)
            dP = batched(dmine, vh[pairs, :hi].mT)
            dS = torch._softmax_backward_data(dP, P, -1, P.dtype)
            del dP
            _queries_of(dq[pairs], lo, hi, tokens, batched(dS, kh[pairs, :hi]))
            dk.add(pairs, hi, dS, mine)
            dv.add(pairs, hi, P, dmine)
    kept.P.clear()
    back = _rotate_back(dq.view(-1, at.heads, tokens, at.width), cos * scale, sin * scale, swap)
    return (
        _join(back),
        _join(_rotate_back(dk.whole().view(-1, at.kv, tokens, at.width), cos, sin, swap)),
        _join(dv.whole().view(-1, at.kv, tokens, at.width)),
    )


def _blocks(tokens: int) -> list[tuple[int, int]]:
    return [(lo, min(lo + BLOCK, tokens)) for lo in range(0, tokens, BLOCK)]


def _pairs(count: int, tokens: int) -> list[slice]:
    """All key heads at once where they are short, one by one where a single one fills the cache."""
    return [slice(0, count)] if tokens < BLOCK else [slice(i, i + 1) for i in range(count)]


@lru_cache(maxsize=8)
def _mask(size: int, dtype: torch.dtype) -> Tensor:
    return torch.full((size, size), -torch.inf, dtype=dtype).triu_(1)


def _queries(values: Tensor, lo: int, hi: int, tokens: int) -> Tensor:
    """Rows [lo, hi) of every query head of a group. Shapes: values (c, group * tokens, width); result (c, group * (hi - lo), width)."""
    if hi - lo == tokens:
        return values
    return values.unflatten(1, (-1, tokens))[:, :, lo:hi].flatten(1, 2)


def _queries_of(values: Tensor, lo: int, hi: int, tokens: int, found: Tensor) -> None:
    values.unflatten(1, (-1, tokens))[:, :, lo:hi] = found.unflatten(1, (-1, hi - lo))


class _Summed:
    """Sums of a' b over blocks of queries, a (c, queries, keys) square-like and b (c, queries, width) narrow.

    One block of all pairs is the sum itself. Pair by pair it is kept as b' a, as turning round the narrow one costs less.
    """

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._sum: Tensor | None = None
        self._turned: Tensor | None = None

    def add(self, pairs: slice, hi: int, a: Tensor, b: Tensor) -> None:
        if a.shape[0] == self._like.shape[0] and a.shape[0] > 1:
            if self._sum is None:
                self._sum = torch.zeros_like(self._like) if hi < self._like.shape[1] else torch.bmm(a.mT, b)
                if hi == self._like.shape[1]:
                    return
            self._sum[:, :hi].baddbmm_(a.mT, b)
        else:
            if self._turned is None:
                self._turned = self._like.new_zeros(self._like.mT.shape)
            self._turned[pairs.start, :, :hi] += times(b[0].t(), a[0].t())

    def whole(self) -> Tensor:
        found = self._sum if self._sum is not None else self._turned
        assert found is not None
        return found if found is self._sum else found.mT.contiguous()


def _split(values: Tensor, heads: int, width: int, tokens: int) -> Tensor:
    """Heads before tokens. Shapes: (rows, heads * width) to (sequences, heads, tokens, width)."""
    return values.view(-1, tokens, heads, width).transpose(1, 2).contiguous()


def _join(values: Tensor) -> Tensor:
    """Shapes: (sequences, heads, tokens, width) to (rows, heads * width)."""
    return values.transpose(1, 2).reshape(-1, values.shape[1] * values.shape[3])


def _rotate(z: Tensor, cos: Tensor, sin: Tensor, swap: Tensor) -> Tensor:
    """In place."""
    turned = times(z.view(-1, z.shape[-1]), swap).view(z.shape)
    return z.mul_(cos).addcmul_(turned, sin)


def _rotate_back(z: Tensor, cos: Tensor, sin: Tensor, swap: Tensor) -> Tensor:
    """The transposed map, in place."""
    turned = times((z * sin).view(-1, z.shape[-1]), swap.t()).view(z.shape)
    return z.mul_(cos).add_(turned)
