"""The rows of A seen by the data: one row for each unit of rank, a channel, drawn in blocks that each have a stream of their own.

Of a Gaussian row only its coordinates in the span of the data are drawn, whatever the width; of another law the row itself,
and then projected. A block of channels is let go of before the next: memory does not grow with rank.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rsverify.definitions.laws import Gaussian, Law

CHANNELS = 1024


@dataclass(frozen=True)
class Block:
    """Channels start to stop, and the place in the order of blocks that keys their stream."""

    number: int
    start: int
    stop: int


def blocks(rank: int) -> Iterator[Block]:
    """The blocks that hold the channels below a rank: they double up to `CHANNELS`, so that powers of two end a block."""
    number, start, size = 0, 0, 4
    while start < rank:
        yield Block(number, start, start + size)
        number, start = number + 1, start + size
        size = min(start, CHANNELS)


def outer_sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sum over channels of a b' for each draw.

    Shapes: a (draws, channels, m), b (draws, channels, n) -> (draws, m, n).
    """
    if a.shape[2] * b.shape[2] == 1:  # one product a draw costs more to call than to compute
        return np.einsum("dc,dc->d", a[:, :, 0], b[:, :, 0])[:, None, None]
    return np.swapaxes(a, 1, 2) @ b


@dataclass(frozen=True)
class Rows:
    """Rows of unit spread in the coordinates of an orthonormal basis.

    Shapes: Q (d_in, k).
    """

    law: Law
    Q: np.ndarray

    @cached_property
    def key(self) -> Hashable:
        """What the numbers depend on, beside their stream."""
        return self.law.text(), hashlib.blake2b(self.Q.tobytes(), digest_size=16).digest(), self.Q.shape

    @property
    def drawn(self) -> int:
        """Numbers drawn for a channel."""
        return self.Q.shape[1] if isinstance(self.law, Gaussian) else len(self.Q)

    def draw(self, rng: np.random.Generator, draws: int, channels: int) -> np.ndarray:
        """The coordinates of the rows, (draws, channels, k)."""
        if isinstance(self.law, Gaussian):
            return rng.standard_normal((draws, channels, self.Q.shape[1]))
        if self.law.standard_uniform:
            # 2 U - 1 for U on [0, 1): the affine part follows the projection, where there are fewer numbers.
            z = rng.random((draws * channels, len(self.Q))) @ self._doubled
            z -= self._column_sums
            return z.reshape(draws, channels, -1)
        rows = self.law.standard_draw(rng, (draws, channels, len(self.Q)))
        return (rows.reshape(-1, len(self.Q)) @ self.Q).reshape(draws, channels, -1)

    @cached_property
    def _doubled(self) -> np.ndarray:
        return 2.0 * self.Q

    @cached_property
    def _column_sums(self) -> np.ndarray:
        return self.Q.sum(axis=0)

    def bytes_per_draw(self, rank: int) -> int:
        """What the rows of a block hold for one draw: twice, for what is being drawn and its scale; all rows where they depend."""
        rows = min(rank, CHANNELS) if self.law.independent else 4 * rank
        return 8 * rows * (2 * self.Q.shape[1] + (0 if isinstance(self.law, Gaussian) else 2 * len(self.Q)))

    def gram(self, rank: int, draws: int, *, stream: Callable[[int], np.random.Generator], chunk: int, whole: bool = False) -> np.ndarray:
        """The sum over the rows of each draw of z z', (draws, k, k): the materialised run's own Gram matrix.

        Args: stream gives the generator of a block by its number; whole draws all of the last block, so that its first rows are those
            of larger ranks.
        """
        sums = np.zeros((draws, self.Q.shape[1], self.Q.shape[1]))
        if not self.law.independent:
            rng = stream(0)
            for n in range(draws):
                z = self.law.standard_draw(rng, (rank, len(self.Q))) @ self.Q
                sums[n] = z.T @ z
            return sums
        for block in blocks(rank):
            rng, channels = stream(block.number), min(rank, block.stop) - block.start
            for first in range(0, draws, chunk):
                held = slice(first, min(draws, first + chunk))
                z = self.draw(rng, held.stop - held.start, block.stop - block.start if whole else channels)[:, :channels]
                sums[held] += outer_sums(z, z)
        return sums
