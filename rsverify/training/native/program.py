"""A forward and backward of a decoder as a list of kernel calls, made once and run at every step.

All that a step keeps or passes on lies in one block of memory that its calls know by address: a step allocates nothing, and between two
calls the interpreter does no more than hand over arguments.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rsverify.training.adapters.passes import Part
from rsverify.training.model import decoder
from rsverify.training.model.decoder import Block, Decoder, Norm
from rsverify.training.native import build, cost
from rsverify.training.native.build import Kernels

ALIGNED = 64
"""Bytes: a vector, and a line of the cache."""


class Pieces:
    """Memory handed out piece by piece, each by itself: for a pass that shares its memory with no other."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def take(self, *shape: int) -> Tensor:
        """A piece whose contents are left over from earlier use."""
        return torch.empty(shape, dtype=self.dtype)


class Arena:
    """The same from one block. Without a block it only counts what would be needed."""

    def __init__(self, dtype: torch.dtype, block: Tensor | None = None) -> None:
        self.dtype, self.block, self.used = dtype, block, 0

    def take(self, *shape: int) -> Tensor:
        """A piece whose contents are left over from earlier use."""
        count = math.prod(shape)
        start, unit = self.used, ALIGNED // self.dtype.itemsize
        self.used = start + -(-count // unit) * unit
        if self.block is None:
            return torch.empty(shape, dtype=self.dtype, device="meta")
        return self.block[start : start + count].view(shape)


@dataclass(frozen=True)
class First:
    """The configurations whose first step a pass of the bare model serves: `source` says which of its copies has the data of each.

    Shapes: source (configurations,), int64, -1 where none of the copies; squares of both factors' gradients (configurations,).
    """

    parts: Sequence[Part]
    source: Tensor
    down_squares: Tensor
    up_squares: Tensor


@dataclass(frozen=True)
class Rows:
    """Where the rows of a part begin, by address; places of factors are counted from there."""

    gamma: int
    w: int
    g: int
    lr: dict[str, int]
    m: int
    s: int
    adam: int | None


@dataclass(frozen=True)
class Linear:
    """A linear's weight and input, and the adapters on it, as its kernels take them."""

    at: decoder.Linear
    X: Tensor
    parts: Any
    count: int

    @property
    def given(self) -> Any:
        """The adapters as an argument of a kernel."""
        return ctypes.byref(self.parts) if self.count else None


class Program:
    """One pass of some neighbouring configurations.

    Args: parts as in `passes.Pass`, none for the bare model; rows and length of one copy's batch; first, for the bare model, the
        configurations at B = 0 whose gradients it finds on its way.

    Shapes: tokens (copies * sequences, length), to be filled before `run`; losses, squares, down_squares and up_squares (copies,):
    squares is the squared norm of what the adapters add, the others those of both factors' gradients, all summed over layers.
    """

    def __init__(
        self,
        kernels: Kernels,
        model: Decoder,
        parts: Sequence[Part],
        *,
        copies: int,
        rows: int,
        length: int,
        probe: bool,
        arena: Arena | Pieces,
        first: First | None = None,
    ) -> None:
        self._kernels, self._model, self._parts, self._first = kernels, model, parts, first
        self.copies, self.rows, self.length, self._arena = copies, rows, length, arena
        self._total = copies * rows
        self._rank = max((part.factors.rank for part in [*parts, *(first.parts if first else ())]), default=1)
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._keep: list[Any] = []  # what only an address in a call refers to
        self._rows: dict[int, Rows] = {}
        self.tokens = torch.zeros((self._total // length, length), dtype=torch.int64)
        self.losses, self.squares, self.down_squares, self.up_squares = (torch.zeros(copies, dtype=kernels.dtype) for _ in range(4))
        self._squares = self.squares if probe and parts else None
        self.entries = [0] * copies
        self._scratch = arena.take(max(self._scratch_sizes()))
        self._dx, self._dh = self._take(model.d), self._take(model.d)
        self._embedded = self._take(model.d)
        self._pass()

    def run(self) -> None:
        """One forward and backward on the tokens: losses, squares and gradients are then those of this step, or the step is taken."""
        for squares in (self.squares, self.down_squares, self.up_squares):
            squares.zero_()
        torch.index_select(self._model.embedding, 0, self.tokens.view(-1), out=self._embedded.view(-1, self._model.d))
        for function, given in self._calls:
            function(*given)

    def _take(self, width: int) -> Tensor:
        return self._arena.take(self.copies, self.rows, width)

    def _scratch_sizes(self) -> list[int]:
        model, size = self._model, self._kernels.size
        shapes = {linear.weight.shape for block in model.blocks for linear in block.linears.values()}
        return [
            *(size("linear_scratch", self.rows, d_in, d_out, self._rank) for d_out, d_in in shapes),
            size("linear_scratch", self.rows, model.d, model.vocabulary, 0),
            size("attention_scratch", self.length, model.head_width),
            size("attention_back_scratch", self.length, model.head_width),
        ]

    def _call(self, name: str, *given: Any) -> None:
        self._keep.extend(value for value in given if isinstance(value, Tensor))
        self._calls.append(self._kernels.call(name, *given))

    def _pass(self) -> None:
        model = self._model
        ways_back: list[Callable[[], None]] = []
        x = self._embedded
        q, kv = model.heads * model.head_width, model.kv_heads * model.head_width
        wide = max(model.ffn, q, 2 * kv)  # of a signal in the feed-forward, of raw or turned heads, of keys and values side by side
        spare = [self._take(q), self._take(wide), self._take(wide)]
        for i, block in enumerate(model.blocks):
            x, back = self._block(block, x, spare, further=i > 0)
            ways_back.append(back)
        h, back_norm = self._norm(x, model.norm)
        head = Linear(decoder.Linear("", model.head), h, None, 0)
        logits = self._take(model.vocabulary)
        self._forward(head, logits)
        self._call("cross_entropy", self.copies, self.rows // self.length, self.length, model.vocabulary, logits, self.tokens, self.losses)
        self._back(head, logits, self._dh, add=False)
        back_norm(self._dh, False)
        for back in reversed(ways_back):
            back()

    def _block(self, block: Block, x: Tensor, spare: Sequence[Tensor], *, further: bool) -> tuple[Tensor, Callable[[], None]]:
        """The calls of a block's forward; returns its result and what adds the calls of its backward, from and to `_dx`."""
        model = self._model
        h, back_first = self._norm(x, block.attention_norm)
        heads, kv, width, sequences = model.heads, model.kv_heads, model.head_width, self._total // self.length
        v = self._take(kv * width)
        q_raw, k_raw = spare[0], spare[1].view(-1)[: self._total * kv * width].view(self.copies, self.rows, kv * width)
        q, k, value = (self._linear(block.linears[name], h) for name in "qkv")
        for linear, out in ((q, q_raw), (k, k_raw), (value, v)):
            self._forward(linear, out)
        sizes = (sequences, self.length, heads, kv, width, *(table.contiguous() for table in model.rotation(self.length)))
        qr, kr = self._take(heads * width), self._take(kv * width)
        P = self._arena.take(self._kernels.size("attention_kept", sequences, self.length, heads))
        mixed = self._take(heads * width)
        self._call("attention", *sizes, q_raw, k_raw, v, qr, kr, P, mixed, self._scratch)
        o = self._linear(block.linears["o"], mixed)
        between = self._take(model.d)
        self._forward(o, between, beside=x)
        h, back_second = self._norm(between, block.feed_forward_norm)
        gate, up = (self._linear(block.linears[name], h) for name in ("gate", "up"))
        g, u, a = (self._take(model.ffn) for _ in range(3))
        self._forward(gate, g)
        self._forward(up, u)
        self._call("gate", g.numel(), g, u, a)
        down = self._linear(block.linears["down"], a)
        out = self._take(model.d)
        self._forward(down, out, beside=between)

        def back() -> None:
            dx, dh, da, du = self._dx, self._dh, spare[1], spare[2]
            self._back(down, dx, da, add=False)
            self._call("gate_back", g.numel(), da, g, u, da, du)
            self._back(up, du, dh, add=False)
            self._back(gate, da, dh, add=True)
            back_second(dh, True)
            dmixed = spare[0]
            self._back(o, dx, dmixed, add=False)
            # The raw heads have been used: their signals take the room of the kept ones' scratch.
            dq = spare[1].view(-1)[: dmixed.numel()].view(dmixed.shape)
            dk, dv = (spare[2].view(-1)[i * v.numel() : (i + 1) * v.numel()].view(v.shape) for i in range(2))
            self._call("attention_back", *sizes, dmixed, qr, kr, v, P, dq, dk, dv, self._scratch)
            self._back(q, dq, dh if further else None, add=False)
            self._back(k, dk, dh if further else None, add=True)
            self._back(value, dv, dh if further else None, add=True)
            if further:
                back_first(dh, True)

        return out, back

    def _norm(self, x: Tensor, norm: Norm) -> tuple[Tensor, Callable[[Tensor, bool], None]]:
        """A norm; returns its result and what adds the call of its backward into `_dx`, from a signal, added or not."""
        d = x.shape[-1]
        h, inverse = self._take(d), self._arena.take(self._total)
        self._call("norm", self._total, d, float(norm.epsilon), x, norm.weight, h, inverse)

        def back(dh: Tensor, add: bool) -> None:
            self._call("norm_back", self._total, d, dh, x, inverse, norm.weight, self._dx, add)

        return h, back

    def _linear(self, at: decoder.Linear, X: Tensor) -> Linear:
        d_out, d_in = at.weight.shape
        found = []
        for part in self._parts:
            factors = part.factors
            if (at.name, factors.down) not in factors.places:
                continue
            r, size = factors.rank, part.hi - part.lo
            merged = cost.route(n=self.rows, d_in=d_in, d_out=d_out, r=r, lanes=self._kernels.lanes) == "merged"
            kept = self._arena.take(size, d_out if merged else self.rows, d_in if merged else r)
            found.append(self._adapters(at.name, part, merged=merged, kept=kept))
            for copy in range(part.lo, part.hi):
                self.entries[copy] += self.rows * d_out
        return Linear(at, X, *_array(found))

    def _adapters(self, name: str, part: Part, *, merged: bool = False, kept: Tensor | None = None) -> build.Part:
        """The adapters of a part on one linear, their memory by address."""
        factors, stepping = part.factors, part.stepping
        at = self._rows_of(part)
        found = build.Part(part.lo, part.hi, factors.rank, int(merged), factors.columns, at.gamma, _address(kept), at.adam)
        for field, factor in (("A", factors.down), ("B", factors.up)):
            start = factors.places[name, factor].start * self._kernels.dtype.itemsize
            moments = (None, at.m + start, at.s + start) if stepping else (at.g + start, None, None)
            setattr(found, field, build.Factor(int(factors.trains[factor]), at.w + start, *moments, at.lr[factor]))
        self._keep.append(kept)
        return found

    def _rows_of(self, part: Part) -> Rows:
        if id(part) not in self._rows:
            factors, stepping, rows = part.factors, part.stepping, part.rows
            rates = {factor: factors.lr[factor].view(-1)[rows] for factor in (factors.down, factors.up)}
            gamma = factors.gamma.view(-1)[rows]
            self._keep += [part, rates, gamma]
            self._rows[id(part)] = Rows(
                gamma.data_ptr(), factors.acting[rows].data_ptr(), 0 if stepping else factors.g[rows].data_ptr(),
                {factor: rate.data_ptr() for factor, rate in rates.items()},
                *((stepping.m.data_ptr(), stepping.s.data_ptr(), ctypes.addressof(stepping.constants)) if stepping else (0, 0, None)),
            )  # fmt: skip
        return self._rows[id(part)]

    def _forward(self, linear: Linear, Y: Tensor, beside: Tensor | None = None) -> None:
        d_out, d_in = linear.at.weight.shape
        sizes = (self.copies, self.rows, d_in, d_out)
        squares = self._squares if linear.count else None
        self._call("linear", *sizes, linear.at.weight, linear.X, beside, Y, linear.given, linear.count, squares, self._scratch)

    def _back(self, linear: Linear, V: Tensor, dX: Tensor | None, *, add: bool) -> None:
        d_out, d_in = linear.at.weight.shape
        sizes, name = (self.copies, self.rows, d_in, d_out), linear.at.name
        if self._first is not None and name:
            first = self._first
            parts, count = _array([self._adapters(name, p) for p in first.parts if (name, p.factors.down) in p.factors.places])
            if count:
                squares = (first.down_squares, first.up_squares)
                given = (ctypes.byref(parts), count, *squares, self._scratch)
                self._call("linear_first", *sizes, linear.X, V, first.source, *given)
        if dX is None and not linear.count:
            return
        squares = (self.down_squares, self.up_squares)
        self._call("linear_back", *sizes, linear.at.weight, linear.X, V, dX, add, linear.given, linear.count, *squares, self._scratch)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _array(parts: Sequence[build.Part]) -> tuple[Any, int]:
    """Parts in a row as C takes them, and their number."""
    return ((build.Part * len(parts))(*parts) if parts else None), len(parts)


def programs(
    kernels: Kernels, model: Decoder, passes: Sequence[tuple[int, Sequence[Part]]], *, rows: int, length: int, probe: bool
) -> list[Program]:
    """A program for each pass (copies, parts); passes run one after another, so that all share the memory of the largest."""
    make = partial(Program, kernels, model, rows=rows, length=length, probe=probe)
    if len(passes) == 1:
        return [make(parts, copies=copies, arena=Pieces(kernels.dtype)) for copies, parts in passes]
    counted = [Arena(kernels.dtype) for _ in passes]
    for (copies, parts), arena in zip(passes, counted, strict=True):
        make(parts, copies=copies, arena=arena)
    block = torch.empty(max(arena.used for arena in counted), dtype=kernels.dtype)
    return [make(parts, copies=copies, arena=Arena(kernels.dtype, block)) for copies, parts in passes]
