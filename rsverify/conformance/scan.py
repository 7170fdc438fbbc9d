"""Reads a saved adapter as a stranger would: two factors, alpha, r, and perhaps a word about the rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor

from rsverify.conformance.bench import Built
from rsverify.conformance.outcomes import Skip
from rsverify.definitions.rules import as_rule
from rsverify.errors import RsverifyError

ALPHAS = ("alpha", "lora_alpha", "network_alpha", "adapter_alpha")
RANKS = ("r", "rank", "lora_r", "lora_rank", "lora_dim", "network_dim", "dim")
SQRT_FLAGS = ("use_rslora", "rslora", "rs_lora", "rank_stabilized")
RULES = ("rule", "scaling_rule", "scaling_type", "scale_rule")
SCALES = ("scale", "scaling", "gamma", "user_scale")


@dataclass(frozen=True)
class PlainFile:
    """What a reader finds: the product of the two factors, alpha, r, and what the file says of its rule (None: nothing)."""

    unit_weight: Tensor
    alpha: float
    rank: int
    rule: str | None
    scales: tuple[float, ...]

    @property
    def scale(self) -> float:
        """What a reader that knows only alpha/r multiplies by."""
        return self.alpha / self.rank

    def says(self, scale: float) -> bool:
        """Whether the rule in the file, or a scale stored beside it, accounts for a scale."""
        found = set(self.scales)
        if self.rule == "sqrt":
            found.add(self.alpha / math.sqrt(self.rank))
        elif self.rule is not None:
            try:
                found.add(as_rule(self.rule).gamma(self.rank, self.alpha))
            except RsverifyError:
                return True  # a word of the implementation's own: the file does say that something else than alpha/r is meant
        return any(math.isclose(value, scale, rel_tol=1e-4) for value in found)


def plain_reader(saved: Any, built: Built) -> PlainFile:
    """The file as LoRA's.

    Raises: Skip where it holds no two factors of LoRA's shapes, or no alpha and r.
    """
    values = dict(_items(saved))
    d_out, d_in = built.W.shape
    matrices = [value.detach().double() for value in values.values() if isinstance(value, Tensor) and value.ndim == 2]
    pairs = [(B, A) for B in matrices for A in matrices if B is not A and B.shape[0] == d_out and A.shape == (B.shape[1], d_in)]
    if len(matrices) != 2 or not pairs:
        raise Skip("what is saved does not hold two factors of LoRA's shapes and nothing else")
    # A vector beside them may be a factor of the product, such as a constant one that no ratio shows; a bias adds nothing to the weight.
    beside = [key for key, value in values.items() if isinstance(value, Tensor) and value.ndim != 2 and value.numel() > 1]
    if any("bias" not in _last(key) for key in beside):
        raise Skip(f"what is saved holds {beside[0]} beside two factors of LoRA's shapes")
    alpha, rank = _number(values, ALPHAS), _number(values, RANKS)
    if alpha is None:
        raise Skip("what is saved holds no alpha that a stranger could find")
    up, down = pairs[0]
    rule = next((str(value) for key, value in values.items() if _last(key) in RULES and isinstance(value, str)), None)
    if any(_last(key) in SQRT_FLAGS and bool(value) for key, value in values.items() if not isinstance(value, Tensor)):
        rule = "sqrt"
    scales = tuple(float(value) for key, value in values.items() if _last(key) in SCALES and _is_number(value))
    if rule is None and any(scale != 1.0 for scale in scales):
        rule = "a stored scale"
    return PlainFile(up @ down, alpha, int(rank or down.shape[0]), rule, scales)


def _items(saved: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if is_dataclass(saved) and not isinstance(saved, type):
        saved = asdict(saved)
    if isinstance(saved, Mapping):
        for key, value in saved.items():
            yield from _items(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(saved, list | tuple):
        for index, value in enumerate(saved):
            yield from _items(value, f"{prefix}.{index}")
    elif hasattr(saved, "__dict__") and not isinstance(saved, Tensor | torch.dtype | torch.device):
        yield from _items(vars(saved), prefix)
    else:
        yield prefix, saved


def _last(key: str) -> str:
    return key.rpartition(".")[2].lower()


def _is_number(value: Any) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)) or (isinstance(value, Tensor) and value.numel() == 1)


def _number(values: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    return next((float(value) for key, value in values.items() if _last(key) in names and _is_number(value)), None)
