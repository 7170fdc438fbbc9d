"""Whether what is saved is what is loaded: for every rule, on every shape of layer, by every reader."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rsverify.conformance.bench import LAYERS, TALL, Bench, Built, close, named, ratio, seed_torch
from rsverify.conformance.diagnose import explain
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.registry import check
from rsverify.conformance.scan import plain_reader
from rsverify.conformance.subject import Subject

OTHER_RULES = ("alpha/r", "alpha/sqrt(r)", "alpha/r**0.75")


def load_saved(bench: Bench, subject: Subject, saved: Any, built: Built) -> Built:
    """The saved adapter on a fresh layer with the same pretrained weight, loaded under another seed than it was built with."""
    assert subject.load is not None
    base = bench.layer(built.layer, built.dtype)
    seed_torch(987_654_321)
    module = subject.load(saved, base)
    if not isinstance(module, torch.nn.Module):
        raise Wrong(f"load returned {type(module).__name__}; expected an nn.Module")
    return replace(built, module=module, base=base)


def require_loaded(bench: Bench) -> None:
    """Raise Skip where an adapter that is saved and loaded at once is another one already: its cause would be told as this check's."""

    def restored() -> bool:
        built = bench.trained()
        x = bench.x(TALL)
        expected = built(x)
        try:
            assert bench.subject.save is not None
            return close(load_saved(bench, bench.subject, bench.subject.save(built.module), built)(x), expected, built)
        except Exception:  # the check itself meets it, and fails with its traceback
            return True

    if not bench.remember("saved and loaded", restored):
        raise Skip("an adapter that is saved and loaded at once is another one already: see check_load_function")


def compare_loaded(found: Built, expected: Tensor, x: Tensor, what: str) -> None:
    """Raise where a loaded layer's output is not the expected one, saying by what it is off."""
    after = found(x)
    if close(after, expected, found):
        return
    base = found.base_output(x)
    if close(after, base, found):
        raise Wrong(f"{what}: the loaded adapter adds nothing; no tensor of the file was used?")
    c, rest = ratio(after - base, expected - base)
    if rest < 1e-3:
        raise Wrong(f"{what}: loaded scale is {explain({(found.rank, found.alpha): c}, tolerance=1e-4)} (loaded/trained)")
    raise Wrong(f"{what}: the loaded adapter computes another function, off by {rest:.2g} of what it adds; are all tensors saved and used?")


def _subjects(bench: Bench) -> Iterator[tuple[Subject, Bench]]:
    yield bench.subject, bench
    for rule in OTHER_RULES:
        other = None if rule == bench.subject.scaling.text else bench.subject.under(rule)
        if other is not None:
            yield other, replace(bench, subject=other)


@check("persistence", "save", "load")
def check_load_function(bench: Bench) -> str | None:
    """A saved and loaded adapter computes the same function, at alpha != r, at two ranks and for every rule that can be set."""
    for subject, held in _subjects(bench):
        for rank, alpha in ((bench.ranks[0], bench.alpha), (bench.ranks[-1], bench.other_alpha)):
            built = held.trained(TALL, rank, alpha=alpha)
            x = held.x(TALL)
            expected = built(x)
            assert subject.save is not None
            saved = subject.save(built.module)
            if not close(built(x), expected, built):
                raise Wrong("saving changes what the layer computes")
            compare_loaded(load_saved(held, subject, saved, built), expected, x, f"rule {subject.scaling}, r={rank}, alpha={alpha:g}")
    return None


@check("persistence", "save", "load")
def check_save_copies(bench: Bench) -> str | None:
    """What was saved does not change when training goes on."""
    s = bench.subject
    assert s.save is not None
    require_loaded(bench)
    built = bench.trained()
    x = bench.x(TALL)
    expected = built(x)
    saved = s.save(built.module)
    bench.stir(built, "later")
    if not close(load_saved(bench, s, saved, built)(x), expected, built):
        raise Wrong("training on after saving changes what was saved: it holds the parameters themselves, not copies")
    return None


@check("persistence", "save", "load", "merge")
def check_save_merged(bench: Bench) -> str | None:
    """An adapter saved while merged is loaded as what it is, once."""
    s = bench.subject
    assert s.save is not None and s.merge is not None
    require_loaded(bench)
    built = bench.trained()
    x = bench.x(TALL)
    expected = built(x)
    with torch.no_grad():
        s.merge(built.module)
    try:
        saved = s.save(built.module)
    except Exception as error:
        return f"saving while merged is refused: {type(error).__name__}"
    compare_loaded(load_saved(bench, s, saved, built), expected, x, "saved while merged")
    return None


@check("persistence", "save", "load")
def check_load_trained(bench: Bench) -> str | None:
    """A loaded adapter trains the same factors as a built one, in the same types, and leaves the pretrained layer frozen."""
    s = bench.subject
    assert s.save is not None
    built = bench.trained()
    loaded = load_saved(bench, s, s.save(built.module), built)
    trainable = [name for name, p in loaded.base.named_parameters() if p.requires_grad]
    if trainable:
        raise Wrong(f"after loading, the base layer's {named(trainable)} require gradients: training goes on with the pretrained layer")
    found = sorted((tuple(p.shape), str(p.dtype)) for p in loaded.module.parameters() if p.requires_grad)
    expected = sorted((tuple(p.shape), str(p.dtype)) for p in built.module.parameters() if p.requires_grad)
    if not found:
        return "a loaded adapter is for inference: none of its factors requires gradients"
    if found != expected:
        raise Wrong(f"after loading {found} are trained; the built layer trains {expected}")
    return None


@check("persistence", "save", "load")
def check_load_order(bench: Bench) -> str | None:
    """The saved tensors may be read in any order of their keys."""
    s = bench.subject
    assert s.save is not None
    built = bench.trained()
    x = bench.x(TALL)
    expected = built(x)
    saved = s.save(built.module)
    if not isinstance(saved, Mapping):
        raise Skip(f"what is saved is {type(saved).__name__}: it has no keys to reorder")
    compare_loaded(load_saved(bench, s, _reversed(saved), built), expected, x, "with the keys in reverse order")
    return None


def _reversed(saved: Any) -> Any:
    return {key: _reversed(value) for key, value in reversed(list(saved.items()))} if isinstance(saved, Mapping) else saved


@check("persistence", "save", "load")
def check_save_size(bench: Bench) -> str | None:
    """The pretrained weight is not saved with the adapter."""
    s = bench.subject
    assert s.save is not None
    built = bench.trained()
    saved = s.save(built.module)
    held = dict(_tensors(saved))
    if not held:
        raise Skip("what is saved holds no tensors that could be looked at")
    if "base-weight" in getattr(s.declared, "tags", ()):
        raise Skip("the base weight is one of its factors")
    copies = [name for name, value in held.items() if value.shape == built.W.shape and torch.equal(value.to(built.W), built.W)]
    if copies:
        raise Wrong(f"{named(copies)} of the saved adapter is the pretrained weight itself")
    return None


def _tensors(saved: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(saved, Tensor):
        yield prefix or "it", saved
    elif isinstance(saved, Mapping):
        for key, value in saved.items():
            yield from _tensors(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(saved, list | tuple):
        for index, value in enumerate(saved):
            yield from _tensors(value, f"{prefix}[{index}]")


@check("persistence", "save")
def check_save_reader(bench: Bench) -> str | None:
    """A reader that knows only alpha/r gets the function, or the file says which rule it needs."""
    s = bench.subject
    assert s.save is not None
    for rank, alpha in ((bench.ranks[0], bench.alpha), (bench.ranks[-1], bench.other_alpha)):
        built = bench.trained(TALL, rank, alpha=alpha)
        read = plain_reader(s.save(built.module), built)
        c, rest = ratio(built.added().double(), read.unit_weight)
        if rest > 1e-3:
            raise Skip("the saved factors do not multiply to what is added: not LoRA's file")
        if math.isclose(c, read.scale, rel_tol=1e-4):
            continue
        if read.rule is None:
            why = explain({(rank, alpha): read.scale / c}, tolerance=1e-4)
            raise Wrong(
                f"a reader that knows only alpha/r takes alpha={read.alpha:g} and r={read.rank} from the file and gets {why} of the trained"
                " scale, and nothing in the file says that another rule is needed"
            )
        if not read.says(c):
            raise Wrong(f"the file says {read.rule}, alpha={read.alpha:g}, r={read.rank}: not the scale {c:.6g} that was trained")
    return None


@check("persistence", "convert", "load")
def check_convert_function(bench: Bench) -> str | None:
    """Converted to a plain adapter on the original pretrained weight, it computes the same function, for every rule that can be set."""
    for subject, held in _subjects(bench):
        for rank, alpha in ((bench.ranks[0], bench.alpha), (bench.ranks[-1], bench.other_alpha)):
            built = held.trained(TALL, rank, alpha=alpha)
            x = held.x(TALL)
            expected = built(x)
            assert subject.convert is not None
            loaded = load_saved(held, subject, subject.convert(built.module), built)
            compare_loaded(loaded, expected, x, f"converted to a plain adapter under rule {subject.scaling}, r={rank}")
    return None


@check("persistence", "save", "load")
def check_load_shapes(bench: Bench) -> str | None:
    """Saved and loaded on layers of every shape: a square one loads transposed factors without complaint."""
    s = bench.subject
    assert s.save is not None
    for layer in LAYERS:
        built = bench.trained(layer)
        x = bench.x(layer)
        expected = built(x)
        compare_loaded(load_saved(bench, s, s.save(built.module), built), expected, x, f"layer {layer.text}")
    return None
