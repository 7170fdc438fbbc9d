"""Factors drawn by the kernels are, bit by bit, what numpy draws from the same streams."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from native_builds import EACH, kernels_of

from rsverify.definitions.laws import Gaussian, KaimingUniform, Uniform, frozen, rescaled
from rsverify.definitions.registry import as_adapter
from rsverify.statistics.streams import stream, stream_key
from rsverify.training import Configuration, fine_tuning_task
from rsverify.training.adapters.contraction import draw_factors
from rsverify.training.native.build import Build
from rsverify.training.native.philox import Draw, draw_uniform
from rsverify.training.stack.layout import Group, build_groups, order

DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("each", EACH)
def test_uniform_entries_are_those_of_numpy(each: tuple[Build | None, torch.dtype]) -> None:
    """Streams enough that keys with zero bytes are among them, counts that end within a counter's four numbers, nothing written behind."""
    one, dtype = each
    kernels, counts, scale = kernels_of(dtype, one), [1, 2, 3, 4, 5, 64, 1023], 0.1 / 3
    keys = [stream_key(seed, "draws") for seed in range(200)]
    assert any(b"\0" in key for key in keys)
    sizes = [counts[i % len(counts)] for i in range(len(keys))]
    found = torch.full((sum(sizes) + 1,), 7.0, dtype=dtype)
    starts = np.cumsum([0, *sizes])
    draw_uniform(
        kernels,
        [
            Draw.of(key, count=size, scale=scale, to=found.data_ptr() + int(start) * dtype.itemsize)
            for key, size, start in zip(keys, sizes, starts, strict=False)
        ],
    )
    expected = np.concatenate([stream(seed, "draws").uniform(-1, 1, size) * scale for seed, size in enumerate(sizes)])
    assert torch.equal(found[:-1], torch.from_numpy(expected).to(dtype))
    assert found[-1] == 7.0


def groups_of(wanted: list[Configuration], dtype: torch.dtype) -> list[Group]:
    task = fine_tuning_task(tokens=8, sequences=1, dtype=dtype)
    chosen = [wanted[i] for i in order(wanted)]
    return build_groups(task.model, chosen, task.targets, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_group_draws_the_same_with_and_without_kernels(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules share a draw, seeds do not; a law that is not uniform is numpy's; and what was in the buffer is overwritten."""
    lora = as_adapter("lora")
    adapters = [
        lora,
        lora.with_init(A=rescaled(KaimingUniform("i"), "1/sqrt(r)")),
        lora.with_init(A=Gaussian(std="1/r")),
        lora.with_init(A=frozen(Uniform(0.5)), B=Uniform("1/r")),
    ]
    wanted = [
        Configuration(rank, rule, adapter=adapter, seed=seed)
        for rank in (3, 8) for rule in ("alpha/r", "alpha/sqrt(r)") for adapter in adapters for seed in (0, 1)
    ]  # fmt: skip
    ours, theirs, drawn = groups_of(wanted, dtype), groups_of(wanted, dtype), []
    monkeypatch.setattr(
        "rsverify.training.stack.layout.draw_uniform", lambda kernels, draws: (drawn.extend(draws), draw_uniform(kernels, draws))
    )
    for group, other in zip(ours, theirs, strict=True):
        group.factors.w.fill_(7.0)
        group.draw(kernels_of(dtype))
        other.draw()
        assert torch.equal(group.factors.w, other.factors.w)
        for row, c in enumerate(group.configurations):
            for (layer, name), place in group.factors.places.items():
                sizes = {
                    "d_in": group.factors.places[layer, group.factors.down].shape[1],
                    "d_out": group.factors.places[layer, group.factors.up].shape[0],
                }
                expected = draw_factors(c.adapter, rank=c.rank, seed=c.seed, draw=c.draw, layer=layer, **sizes)[name]
                assert torch.equal(place.of(group.factors.w)[row], torch.from_numpy(expected).to(dtype))
    assert len(drawn) == 2 * 2 * len(ours[0].factors.layers) * 4  # ranks, seeds, layers, and the uniform factors of the four adapters
