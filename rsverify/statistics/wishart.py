"""Wishart matrices at any number of degrees of freedom: the law of Z'Z for r rows of k independent standard normals.

From k rows on, Bartlett's triangle T with T T' = Z'Z in law takes k chi variables and k (k - 1) / 2 normals, whatever r.
Below k rows Z itself is smaller and is drawn. Source: Bartlett 1933; Anderson 2003 (the theorem's number was not seen).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from rsverify.errors import InputError
from rsverify.statistics.streams import stream


def wishart_factor(draws: int, k: int, r: int, *, chi: np.random.Generator, normal: np.random.Generator) -> np.ndarray:
    """Factors F with F'F of Wishart's law of dimension k and r degrees of freedom.

    Two generators, because a chi draw takes an unknown number of a stream's numbers: draws in several portions from the
    same two are the same as all at once.

    Shapes: (draws, min(r, k), k); upper triangular from r = k on. Raises: InputError for r < 1 or negative sizes.
    """
    if r < 1 or k < 0 or draws < 0:
        raise InputError(f"draws={draws}, k={k}, r={r}; expected draws and k from 0, degrees of freedom from 1")
    if r < k:
        return normal.standard_normal((draws, r, k))
    found = np.zeros((draws, k, k))
    rows, columns = _above(k)
    found[:, rows, columns] = normal.standard_normal((draws, len(rows)))
    # r - i as whole numbers: exact to 2**53. chi(f)**2 is twice a gamma variable of shape f / 2.
    halves = np.asarray([(r - i) / 2 for i in range(k)])
    found[:, range(k), range(k)] = np.sqrt(2 * chi.standard_gamma(halves, (draws, k)))
    return found


@cache
def _above(k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(k, 1)


def gram(factor: np.ndarray) -> np.ndarray:
    """F'F of every draw.

    Shapes: (draws, q, k) -> (draws, k, k).
    """
    return np.swapaxes(factor, 1, 2) @ factor


class NestedWishart:
    """Wishart matrices W(1), W(2), ... of growing sums of rows, for one block of draws: W(s) - W(r) is independent of W(r).

    In words: rows are counted in dyadic blocks; block b of level l holds rows b 2**l to (b + 1) 2**l. The octaves, blocks
    of index 1, are independent Wisharts of 2**l degrees. A rank between two powers of two takes part of an octave: a block
    W of known sum is halved by a matrix beta variable, W_left = L U L' with L L' = W and U = S**-1/2 S_left S**-1/2' of two
    fresh Wisharts, until rows themselves are drawn, given their sum. Every random number belongs to (seed, level, block):
    no number changes with the ranks that are asked for.
    Source: Olkin and Rubin 1964 for the independence of U and W (the theorem's number was not seen).

    Args: name and seed key the streams; draws is fixed, and a smaller number of draws gives the first of them.
    """

    def __init__(self, k: int, draws: int, seed: int, *name: str | int) -> None:
        self.k, self.draws, self.seed, self.name = k, draws, seed, name
        # Twice k rows at least: a square block of normals can be near singular, and rows are found given their sum.
        self.leaf = max(1, (2 * k - 1).bit_length())
        self._sums: dict[int, np.ndarray] = {}

    def at(self, r: int) -> np.ndarray:
        """W(r).

        Shapes: (draws, k, k). Raises: InputError for r < 1.
        """
        if r < 1:
            raise InputError(f"r={r}; expected degrees of freedom from 1")
        if r <= 1 << self.leaf:
            return gram(self._normal("rows", self.leaf, 0)[:, :r])
        level = r.bit_length() - 1
        whole = self._octaves(level)
        rest = r - (1 << level)
        return whole + self._part(level, 1, self._block(level), rest) if rest else whole

    def _octaves(self, level: int) -> np.ndarray:
        """W(2**level), summed upwards from the leaf."""
        if level not in self._sums:
            below = self._octaves(level - 1) + self._block(level - 1) if level > self.leaf else gram(self._normal("rows", self.leaf, 0))
            self._sums[level] = below
        return self._sums[level]

    def _part(self, level: int, index: int, whole: np.ndarray, rows: int) -> np.ndarray:
        """The sum of the first rows of a block whose sum is given."""
        if rows == 1 << level:
            return whole
        lower = np.linalg.cholesky(whole)
        if level == self.leaf:
            fresh = self._normal("given", level, index)
            given = np.linalg.solve(np.linalg.cholesky(gram(fresh)), np.swapaxes(fresh[:, :rows], 1, 2))
            return gram(np.swapaxes(lower @ given, 1, 2))
        left, right = (gram(self._fresh("split", level, index, side)) for side in (0, 1))
        root = np.linalg.solve(np.linalg.cholesky(left + right), np.broadcast_to(np.eye(self.k), whole.shape))
        outer = lower @ root
        first = outer @ left @ np.swapaxes(outer, 1, 2)
        half = 1 << (level - 1)
        if rows <= half:
            return self._part(level - 1, 2 * index, first, rows)
        second = outer @ right @ np.swapaxes(outer, 1, 2)
        return first + self._part(level - 1, 2 * index + 1, second, rows - half)

    def _block(self, level: int) -> np.ndarray:
        return gram(self._fresh("octave", level, 1))

    def _fresh(self, kind: str, level: int, index: int, side: int = 0) -> np.ndarray:
        """A Wishart factor of a block's rows, or of half of them for a split."""
        rows = 1 << (level - (kind == "split"))
        chi, normal = (stream(self.seed, *self.name, kind, level, index, side, what) for what in ("chi", "normal"))
        return wishart_factor(self.draws, self.k, rows, chi=chi, normal=normal)

    def _normal(self, kind: str, level: int, index: int) -> np.ndarray:
        return stream(self.seed, *self.name, kind, level, index).standard_normal((self.draws, 1 << self.leaf, self.k))
