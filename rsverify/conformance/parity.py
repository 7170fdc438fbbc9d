"""Loader parity: whether a serving stack applies the scale that an adapter was trained with, and which wrong rule it uses if not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsverify.conformance.adapter_folder import AdapterFolder, Trained, read_adapter
from rsverify.conformance.adapter_methods import FUSED
from rsverify.conformance.diagnose import FACTORS, RULES, Suspect
from rsverify.errors import InputError, suggest
from rsverify.files.reading import read_json

TOLERANCE = 2.0**-8
"""Relative error of a scale that a stack rounds to bfloat16, whose significand has 8 bits."""

Loader = Callable[[str], Mapping[str, Any]]
"""loader(adapter_dir) -> scale by module, or the weight (d_out, d_in) that the stack adds to the module's own."""


@dataclass(frozen=True)
class ParityRow:
    """A module: what it was trained with, the scale that is applied, applied/trained, and why it is not 1 ('' where it is).

    `applied` is None where the stack gives no scale for the module.
    """

    module: str
    rank: int
    alpha: float
    trained: float
    applied: float | None
    factor: float | None
    why: str

    @property
    def holds(self) -> bool:
        """Whether the trained scale is applied."""
        return not self.why


@dataclass(frozen=True)
class Parity:
    """All modules of an adapter, and what their factors have in common, in a sentence."""

    rule: str
    rows: tuple[ParityRow, ...]
    summary: str

    @property
    def holds(self) -> bool:
        """Whether every module has the scale that it was trained with."""
        return all(row.holds for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 = holds, 1 = does not."""
        return 0 if self.holds else 1


@dataclass(frozen=True)
class Cause:
    """A wrong way to a scale, as a function of what the module was trained with and the whole adapter."""

    text: str
    scale: Callable[[Trained, AdapterFolder], float]
    cause: str


def _rule(text: str, rank: float, alpha: float) -> float:
    return 1.0 if text == "1" else alpha / math.sqrt(rank) if "sqrt" in text else alpha / rank


def _fixed(suspect: Suspect) -> Cause:
    texts = {
        "alpha/r": "use_rslora is ignored", "alpha/sqrt(r)": "the sqrt rule, though use_rslora is not set",
        "1": "no scale is applied, or alpha is assumed to be r", "alpha": "raw alpha: the division by the rank is missing",
    }  # fmt: skip
    return Cause(suspect.text, lambda t, _: suspect.factor(t.rank, t.alpha), texts.get(suspect.text, suspect.cause))


PATTERNS = (
    Cause("the rule at the config's r and alpha", lambda t, a: _rule(t.rule, a.rank, a.alpha),
          "rank_pattern and alpha_pattern are ignored"),
    Cause("the rule at the config's alpha", lambda t, a: _rule(t.rule, t.rank, a.alpha), "alpha_pattern is ignored"),
    Cause("the rule at the config's r", lambda t, a: _rule(t.rule, a.rank, t.alpha), "rank_pattern is ignored"),
    Cause("alpha/r at the config's r and alpha", lambda t, a: a.alpha / a.rank,
          "use_rslora, rank_pattern and alpha_pattern are ignored"),
    Cause("the rule at the largest rank", lambda t, a: _rule(t.rule, max(m.rank for m in a.modules.values()), t.alpha),
          "the adapter is padded to its largest rank and scaled by it"),
)  # fmt: skip
FIXED = tuple(map(_fixed, RULES))


def parity(adapter_dir: Path | str, scales: Mapping[str, Any] | Loader | Path | str | float, *, tolerance: float = TOLERANCE) -> Parity:
    """The scale that a serving stack applies to each module of a saved adapter, compared with the one it was trained with.

    LoRA, LoHa, LoKr, HiRA, VeRA and RandLoRA, whose scale is a number that the folder tells.

    Args:
        adapter_dir: folder with adapter_config.json and adapter_model.safetensors; rank_pattern, alpha_pattern, use_rslora are read.
        scales: effective scale by module, as the stack applies it; or the weight (d_out, d_in) it adds there, whose scale is then
            measured against B A, or what stands for it; one number for all modules; the path of a JSON file with either; or a
            function of the folder's path that returns such a mapping. A module may be named by the end of its name, which then holds
            for all that end so, or by the name of the layer that the stack fuses it into (qkv_proj, gate_up_proj, ...): a scale
            then holds for every part, a weight is split.
        tolerance: relative error that rounding explains; by default that of a scale rounded to bfloat16.
    Raises: InputError for a folder or scales that cannot be used.
    """
    if isinstance(tolerance, bool) or not 0 < tolerance < 1:
        raise InputError(f"tolerance={tolerance!r}; expected a relative error between 0 and 1")
    adapter = read_adapter(adapter_dir)
    applied = _applied(adapter, scales)
    off = {name: value for name, value in applied.items() if not _same(value, adapter.modules[name].scale, tolerance)}
    shared = _common(adapter, off, tolerance)
    rows = []
    for name, trained in adapter.modules.items():
        value = applied.get(name)
        if value is None:
            rows.append(ParityRow(name, trained.rank, trained.alpha, trained.scale, None, None, "no scale is given: is it left out?"))
            continue
        why = "" if name not in off else shared or _alone(adapter, trained, value, tolerance)
        rows.append(ParityRow(name, trained.rank, trained.alpha, trained.scale, value, value / trained.scale, why))
    return Parity(adapter.rule, tuple(rows), _summary(adapter, rows, shared))


def _same(found: float, expected: float, tolerance: float) -> bool:
    return math.isclose(found, expected, rel_tol=tolerance)


def _candidates(adapter: AdapterFolder) -> tuple[Cause, ...]:
    """Causes that can be told apart: those about patterns only where a module's rank or alpha is not the config's."""
    mixed = any((m.rank, m.alpha) != (adapter.rank, adapter.alpha) for m in adapter.modules.values())
    return (*FIXED, *PATTERNS) if mixed else FIXED


def _common(adapter: AdapterFolder, off: Mapping[str, float], tolerance: float) -> str:
    """What explains every wrong scale at once: the causes that fit all of them, or one scale for all; '' where nothing does."""
    if not off:
        return ""
    trained = [adapter.modules[name] for name in off]
    fit = [c for c in _candidates(adapter) if all(_same(off[t.module], c.scale(t, adapter), tolerance) for t in trained)]
    if fit:
        return _causes(fit)
    factors = [f for f in FACTORS if all(_same(off[t.module], t.scale * f.factor(t.rank, t.alpha), tolerance) for t in trained)]
    if factors:
        return f"{factors[0].text} times the trained scale: {factors[0].cause}"
    one = next(iter(off.values()))
    if len(off) > 1 and all(_same(value, one, tolerance) for value in off.values()) and len({t.scale for t in trained}) > 1:
        like = [t.module for t in adapter.modules.values() if _same(t.scale, one, tolerance)]
        whose = f", that of {like[0]}" if like else ""
        return f"one global scale {one:.6g}{whose}, for modules of different rank or alpha"
    return ""


def _alone(adapter: AdapterFolder, trained: Trained, value: float, tolerance: float) -> str:
    fit = [c for c in _candidates(adapter) if _same(value, c.scale(trained, adapter), tolerance)]
    return _causes(fit) if fit else "no rule that we know"


def _causes(fit: list[Cause]) -> str:
    """The causes that fit, the likeliest first; several where the ranks at hand do not tell them apart."""
    distinct = list(dict.fromkeys(f"{c.text}: {c.cause}" for c in fit))
    return distinct[0] if len(distinct) == 1 else f"{distinct[0]}; or, not to be told apart here, {'; or '.join(distinct[1:3])}"


def _summary(adapter: AdapterFolder, rows: list[ParityRow], shared: str) -> str:
    wrong = [row for row in rows if not row.holds]
    if not wrong:
        return f"all {len(rows)} modules have the scale of {adapter.rule} that they were trained with"
    factors = [row.factor for row in wrong if row.factor is not None]
    text = f"{len(wrong)} of {len(rows)} modules do not have the scale of {adapter.rule} that they were trained with"
    if factors:
        low, high = min(factors), max(factors)
        text += f": {_strength(low)}" if math.isclose(low, high, rel_tol=1e-3) else f": from {_strength(low)} to {_strength(high)}"
    missing = sum(row.factor is None for row in wrong)
    text += f"; {missing} have none" if missing else ""
    return f"{text}; {shared}" if shared else text


def _strength(factor: float) -> str:
    if factor == 0:
        return "no effect at all"
    if factor < 0:
        return f"{abs(factor):.4g} times as strong with the wrong sign"
    return f"{1 / factor:.4g} times too weak" if factor < 1 else f"{factor:.4g} times too strong"


def _applied(adapter: AdapterFolder, scales: Any) -> dict[str, float]:
    given = scales
    if callable(scales):
        given = scales(str(adapter.path))
    elif isinstance(scales, Path | str):
        given = _from_file(Path(scales))
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = dict.fromkeys(adapter.modules, given)
    if not isinstance(given, Mapping):
        raise InputError(f"scales: got {type(given).__name__}; expected a mapping from modules to scales, or one number for all")
    found: dict[str, float] = {}
    for name, value in given.items():
        key = str(name).removeprefix("base_model.model.")
        ours = [key] if key in adapter.modules else [module for module in adapter.modules if module.endswith(f".{key}")]
        if not ours and (parts := _fused(adapter, key)):
            for module, part in _split(adapter, str(name), parts, value):
                found.setdefault(module, _number(adapter, module, part))
            continue
        if not ours:
            raise InputError(f"scales: the adapter has no module {name!r}{suggest(key, adapter.modules)}")
        for module in ours:
            if module in found and key != module:
                continue  # a whole name goes before an ending
            found[module] = _number(adapter, module, value)
    return found


def _fused(adapter: AdapterFolder, key: str) -> list[tuple[str, ...]]:
    """The parts of a fused layer, all of them, for each place where the adapter has one: by what the stack calls the layer."""
    where, dot, last = key.rpartition(".")
    places = []
    for parts in FUSED.get(last, ()):
        for module in adapter.modules:
            before, _, end = module.rpartition(".")
            if end in parts and (not dot or before == where or before.endswith(f".{where}")):
                place = tuple(f"{before}.{part}" if before else part for part in parts)
                if place not in places:
                    places.append(place)
    return places


def _split(adapter: AdapterFolder, name: str, places: list[tuple[str, ...]], value: Any) -> list[tuple[str, Any]]:
    """What a fused layer's scale or weight says of each part that is adapted: the scale itself, or the part's rows of the weight."""
    if not (hasattr(value, "shape") and len(value.shape) == 2):
        return [(module, value) for place in places for module in place if module in adapter.modules]
    if len(places) > 1:
        raise InputError(f"scales: {name!r} is one weight for {len(places)} layers; name each layer whole")
    (place,) = places
    absent = [module for module in place if module not in adapter.modules]
    if absent:
        raise InputError(f"scales: {name!r} is the weight of a fused layer, of which {', '.join(absent)} is not adapted: how many rows are"
                         " whose cannot be told; give the parts' weights, or a scale")  # fmt: skip
    rows = [adapter.product(module).shape[0] for module in place]
    if sum(rows) != value.shape[0]:
        raise InputError(f"scales: {name!r}: a weight of {value.shape[0]} rows; its parts have {' + '.join(map(str, rows))}")
    starts = [sum(rows[:k]) for k in range(len(rows))]
    return [(module, value[start : start + count]) for module, start, count in zip(place, starts, rows, strict=True)]


def _number(adapter: AdapterFolder, module: str, value: Any) -> float:
    if hasattr(value, "shape") and len(value.shape) == 2:
        return _measured(adapter, module, value)
    if isinstance(value, Tensor) or (hasattr(value, "item") and getattr(value, "size", None) == 1):
        value = value.item() if not isinstance(value, Tensor) or value.numel() == 1 else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"scales: {module}: {value!r}; expected a finite number, or a weight (d_out, d_in)")
    return float(value)


def _measured(adapter: AdapterFolder, module: str, value: Any) -> float:
    """The factor of B A in the weight that a stack adds.

    Raises: InputError where that weight is no multiple of B A.
    """
    product, added = adapter.product(module), torch.as_tensor(value).detach().double().cpu()
    if added.shape != product.shape:
        turned = ": transposed?" if added.T.shape == product.shape else ""
        raise InputError(f"scales: {module}: a weight {tuple(added.shape)}; {_made(adapter)} is {tuple(product.shape)}{turned}")
    size = float((product * product).sum())
    if size == 0:
        raise InputError(f"scales: {module}: {_made(adapter)} is zero in the file (never trained?): no scale can be measured")
    scale = float((added * product).sum()) / size
    rest = float((added - scale * product).norm()) / (float(added.norm()) or 1.0)
    if rest > 2.0**-6:  # four roundings to bfloat16: factors, product, scale, sum
        raise InputError(
            f"scales: {module}: the weight is no multiple of {_made(adapter)} ({rest:.2g} of it is something else): other tensors?"
        )
    return scale


def _made(adapter: AdapterFolder) -> str:
    return "B A" if adapter.saved is None else "its factors' product"


def _from_file(path: Path) -> Any:
    given = read_json(path, name="scales", expected="JSON, a scale by module")
    if isinstance(given, dict) and set(given) == {"scales"}:
        return given["scales"]
    return given
