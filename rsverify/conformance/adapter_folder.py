"""Reads an adapter folder as PEFT's save_pretrained leaves it, without PEFT: what each module was trained with.

Only shapes are read, from the header of the safetensors file; pickles are refused and never opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rsverify.conformance.adapter_methods import OTHERS, Saved
from rsverify.definitions.rules import as_rule
from rsverify.errors import InputError
from rsverify.files.reading import read_object

WEIGHTS = "adapter_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
PREFIX = "base_model.model."
KEY = re.compile(r"^(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?$")
IGNORED = (".lora_magnitude_vector", ".lora_bias", ".bias", ".weight")
"""Endings of other tensors that may lie in the file: trained magnitudes, biases, modules saved whole."""


@dataclass(frozen=True)
class Trained:
    """What a module was trained with: rank, alpha, rule, and the scale that these make."""

    module: str
    rank: int
    alpha: float
    rule: str

    @property
    def scale(self) -> float:
        """The factor of B A in training."""
        return as_rule(self.rule).gamma(self.rank, self.alpha)


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter as it was trained: its modules, and the config's global rank and alpha."""

    path: Path
    rank: int
    alpha: float
    rule: str
    modules: Mapping[str, Trained]
    keys: Mapping[str, tuple[str, ...]]
    saved: Saved | None = None

    def product(self, module: str) -> Tensor:
        """What a module's tensors add at scale 1, (d_out, d_in), in float64: B A of a LoRA.

        Raises: InputError where that takes more than the folder, or tensors are no matrices.
        """
        if self.saved is None:
            B, A = self.factors(module)
            return B @ A
        if self.saved.added is None:
            raise InputError(f"{module}: what it adds cannot be told from the folder alone; give its scale as a number")
        with safe_open(self.path / WEIGHTS, framework="pt") as file:
            held = {_part(self.saved, key): file.get_tensor(key).double() for key in self.keys[module]}
        if any(value.ndim != 2 for value in held.values()):
            raise InputError(f"{module}: its factors are no matrices; give its scale as a number")
        return self.saved.added(held)

    def factors(self, module: str) -> tuple[Tensor, Tensor]:
        """B (d_out, r) and A (r, d_in) of a module, in float64.

        Raises: InputError for tensors that are no matrices.
        """
        with safe_open(self.path / WEIGHTS, framework="pt") as file:
            A, B = (file.get_tensor(key).double() for key in self.keys[module])
        if A.ndim != 2 or B.ndim != 2:
            raise InputError(f"{module}: its factors are no matrices ({tuple(A.shape)}, {tuple(B.shape)}); give its scale as a number")
        return B, A


def read_adapter(folder: Path | str) -> AdapterFolder:
    """An adapter folder: adapter_config.json and adapter_model.safetensors.

    Raises: InputError where one is missing, damaged, of a method whose scale is no number, or where the two do not match; for a pickle.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"adapter={str(path)!r} is no folder; expected one with adapter_config.json and {WEIGHTS}")
    config = _config(path)
    shapes = _shapes(path)
    if (other := OTHERS.get(str(config["peft_type"]).upper())) is not None:
        return _other(path, config, shapes, other)
    rule = "alpha/sqrt(r)" if config.get("use_rslora") else "alpha/r"
    rank, alpha = int(_positive(path, config, "r", whole=True)), _positive(path, config, "lora_alpha")
    pairs = _pairs(path, shapes)
    patterns = {key: _pattern(path, config, key) for key in ("rank_pattern", "alpha_pattern")}
    modules = {}
    for module, (down, up) in pairs.items():
        wanted = int(_matching(patterns["rank_pattern"], module, rank))
        _compare(path, module, wanted, (down, shapes[down]), (up, shapes[up]), config)
        modules[module] = Trained(module, wanted, float(_matching(patterns["alpha_pattern"], module, alpha)), rule)
    _targets(path, config, list(modules))
    return AdapterFolder(path, rank, alpha, rule, modules, pairs)


def _other(path: Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], saved: Saved) -> AdapterFolder:
    """A folder of another method than LoRA whose scale is a number."""
    kind = str(config["peft_type"]).upper()
    usual_rank, usual_alpha = saved.usual
    rank = int(_positive(path, config, "r", whole=True, usual=usual_rank))
    alpha = usual_alpha if saved.alpha is None else _positive(path, config, saved.alpha, usual=usual_alpha)
    held: dict[str, dict[str, str]] = {}
    for key in shapes:
        match = saved.key.match(key)
        if match and match["module"] == PREFIX.partition(".")[0]:
            continue  # matrices that all modules share
        if match:
            held.setdefault(match["module"].removeprefix(PREFIX), {})[match["part"]] = key
        elif not key.endswith(IGNORED) and not key.startswith("base_model."):
            raise InputError(f"{path.name}: tensor {key!r} of {WEIGHTS} is no part of a {kind} adapter: does the config belong to it?")
    if not held:
        raise InputError(f"{path.name}: {WEIGHTS} holds no tensors of {kind}; they do not belong to this config")
    patterns = {key: _pattern(path, config, key) for key in ("rank_pattern", "alpha_pattern")}
    modules = {}
    for module, parts in sorted(held.items()):
        if not any(whole <= parts.keys() for whole in saved.whole):
            raise InputError(f"{path.name}: {module} holds {', '.join(sorted(parts))} in {WEIGHTS} only: something is missing")
        wanted = int(_matching(patterns["rank_pattern"], module, rank))
        for part, index in saved.ranks.items():
            size = shapes[parts[part]][index] if part in parts else wanted
            if size != wanted:
                raise InputError(
                    f"{path.name}: the config gives {module} rank {wanted}, its tensor {parts[part]} {shapes[parts[part]]} holds {size}:"
                    " config and tensors are of two adapters, or rank_pattern is missing"
                )
        modules[module] = Trained(module, wanted, float(_matching(patterns["alpha_pattern"], module, alpha)), saved.rule)
    _targets(path, config, list(modules))
    return AdapterFolder(path, rank, alpha, saved.rule, modules, {name: tuple(held[name].values()) for name in modules}, saved)


def _part(saved: Saved, key: str) -> str:
    match = saved.key.match(key)
    assert match is not None
    return match["part"]


def _config(path: Path) -> dict[str, Any]:
    file = path / "adapter_config.json"
    if not file.exists():
        raise InputError(f"adapter={str(path)!r} holds no adapter_config.json: its rank, alpha and rule cannot be known")
    data = read_object(file, name="config", expected="JSON as PEFT's save_pretrained writes it")
    kind = data.get("peft_type")
    known = ("LORA", *OTHERS)
    if str(kind).upper() not in known:
        raise InputError(f"{str(file)!r}: peft_type={kind!r}; scales are compared for {', '.join(known)}")
    return data


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    file = path / WEIGHTS
    if not file.exists():
        pickled = sorted(item.name for item in path.iterdir() if item.suffix in PICKLES)
        if pickled:
            raise InputError(
                f"adapter={str(path)!r} holds {pickled[0]}, a pickle: loading one runs whatever code is in it, so it is not opened;"
                f" save the adapter again with safe_serialization=True for {WEIGHTS}"
            )
        raise InputError(f"adapter={str(path)!r} holds no {WEIGHTS}")
    try:
        with safe_open(file, framework="pt") as opened:
            return {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        size = file.stat().st_size
        raise InputError(f"{str(file)!r} is truncated or damaged ({size} bytes; {error}); copy or download it again") from None


def _pairs(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, str]]:
    """Names of A's and B's tensors by module."""
    sides: dict[str, dict[str, str]] = {}
    for key in shapes:
        match = KEY.match(key)
        if match:
            module = match["module"].removeprefix(PREFIX)
            if match["side"] in sides.setdefault(module, {}):
                raise InputError(f"{path.name}: {module} has its factor {match['side']} twice in {WEIGHTS}")
            sides[module][match["side"]] = key
        elif not key.endswith(IGNORED):
            raise InputError(f"{path.name}: tensor {key!r} of {WEIGHTS} is no part of a LoRA adapter: does the config belong to it?")
    for module, found in sides.items():
        if len(found) != 2:
            (side,) = found
            raise InputError(f"{path.name}: {module} has a lora_{side} and no lora_{'AB'.replace(side, '')} in {WEIGHTS}")
    if not sides:
        raise InputError(f"{path.name}: {WEIGHTS} holds no lora_A and lora_B; its tensors do not belong to this config")
    return {module: (found["A"], found["B"]) for module, found in sorted(sides.items())}


def _compare(
    path: Path, module: str, rank: int, down: tuple[str, tuple[int, ...]], up: tuple[str, tuple[int, ...]], config: Mapping[str, Any]
) -> None:
    held = {down[0]: down[1][0], up[0]: up[1][1] if len(up[1]) > 1 else 0}
    for key, size in held.items():
        experts = bool(config.get("target_parameters")) and size % rank == 0  # experts' ranks lie side by side
        if size != rank and not experts:
            raise InputError(
                f"{path.name}: the config gives {module} rank {rank}, its tensor {key} {(down if key == down[0] else up)[1]} holds {size}:"
                " config and tensors are of two adapters, or rank_pattern is missing"
            )


def _targets(path: Path, config: Mapping[str, Any], modules: list[str]) -> None:
    targets = config.get("target_modules")
    if config.get("target_parameters") or targets in (None, "all-linear", []):
        return
    if isinstance(targets, str):
        try:
            outside = [name for name in modules if not re.fullmatch(targets, name)]
        except re.error as error:
            raise InputError(f"{path.name}: target_modules={targets!r} is no pattern ({error})") from None
    else:
        outside = [name for name in modules if not any(name == target or name.endswith(f".{target}") for target in targets)]
    if outside:
        raise InputError(f"{path.name}: {WEIGHTS} adapts {outside[0]}, which target_modules={targets!r} of the config does not name")


def _pattern(path: Path, config: Mapping[str, Any], key: str) -> dict[str, float]:
    pattern = config.get(key) or {}
    if not isinstance(pattern, dict):
        raise InputError(f"{path.name}: {key}={pattern!r}; expected an object of patterns and numbers")
    for name, value in pattern.items():
        _positive(path, pattern, name, whole=key == "rank_pattern")
        try:
            re.compile(name)
        except re.error as error:
            raise InputError(f"{path.name}: {key}: {name!r}: {value} is no pattern ({error})") from None
    return pattern


def _matching(pattern: Mapping[str, float], module: str, default: float) -> float:
    """The first entry whose pattern the module's name ends in, as PEFT looks it up."""
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _positive(path: Path, data: Mapping[str, Any], key: str, *, whole: bool = False, usual: float = 8) -> float:
    value = data.get(key, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf") or (whole and value != int(value)):
        raise InputError(f"{path.name}: {key}={value!r} in adapter_config.json; expected a positive {'whole ' if whole else ''}number")
    return float(value)
