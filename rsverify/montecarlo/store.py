"""What was drawn once and serves again: a rule only scales, and an optimizer only steps from, the same draw of A.

Kept are arrays by all that they depend on. So an estimate with a store has the numbers that it has without, to the rounding of a
product whose last rows are summed in another order than those inside it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

import numpy as np

BYTES = 2**27
LARGEST = 8
"""An array above the store's bytes over this is drawn again rather than kept: it would push out what many claims share."""

Arrays = tuple[np.ndarray, ...]


class Store:
    """Drawn arrays by what they depend on; the longest unused go first where they hold more than `bytes`.

    Kept arrays are not to be written to.
    """

    def __init__(self, bytes: int = BYTES) -> None:
        self.bytes = bytes
        self._held: OrderedDict[Hashable, Arrays] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Arrays], *, enough: Callable[[Arrays], bool] = lambda arrays: True) -> Arrays:
        """The arrays of the key, made where there are none or not enough of them."""
        with self._lock:
            arrays = self._held.get(key)
            if arrays is not None and enough(arrays):
                self._held.move_to_end(key)
                return arrays
        arrays = make()
        size = sum(array.nbytes for array in arrays)
        with self._lock:
            if size * LARGEST <= self.bytes:
                self._drop(key)
                self._held[key] = arrays
                self._size += size
            while self._size > self.bytes:
                self._drop(next(iter(self._held)))
        return arrays

    def _drop(self, key: Hashable) -> None:
        self._size -= sum(array.nbytes for array in self._held.pop(key, ()))
