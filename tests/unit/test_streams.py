"""Streams: the same name, the same numbers, whatever else was drawn; other names, other numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsverify.statistics.intervals import normal_quantile
from rsverify.statistics.streams import stream

GOLDEN_PLAIN = [1146253124, 2555983773, 3757365754, 1054469798]
GOLDEN_NAMED = [2510773643, 1747949566, 2702895902, 1189486894]


def test_the_first_numbers_are_those_of_every_machine() -> None:
    assert stream(0).integers(0, 2**32, 4).tolist() == GOLDEN_PLAIN
    assert stream(7, "montecarlo", "A", 16).integers(0, 2**32, 4).tolist() == GOLDEN_NAMED


def test_a_stream_is_not_moved_by_others() -> None:
    alone = stream(3, "a").random(5)
    stream(3, "b").random(1000)
    np.random.default_rng(3).random(10)
    np.testing.assert_array_equal(stream(3, "a").random(5), alone)


PATHS = st.lists(st.one_of(st.text(alphabet="ab1:/", max_size=3), st.integers(-3, 20)), max_size=3).map(tuple)


@given(st.tuples(st.integers(0, 3), PATHS), st.tuples(st.integers(0, 3), PATHS))
def test_different_names_give_different_streams(one, other) -> None:
    same = (stream(one[0], *one[1]).integers(0, 2**63, 2) == stream(other[0], *other[1]).integers(0, 2**63, 2)).all()
    assert same == (one == other)


def test_a_number_and_its_text_are_two_names() -> None:
    assert stream(0, 1).random() != stream(0, "1").random() != stream(0, "1", "").random()
    assert stream(1, 2).random() != stream(12).random() and stream(0, "ab").random() != stream(0, "a", "b").random()


@pytest.mark.statistical
def test_streams_of_near_names_are_uncorrelated() -> None:
    """False failures at most 1e-6 for all pairs together; a shared stream has correlation 1."""
    draws, names = 20_000, [(0, "A", 4), (0, "A", 8), (0, "B", 4), (1, "A", 4), (0, "A"), (0,)]
    values = np.array([stream(seed, *path).standard_normal(draws) for seed, *path in names])
    pairs = list(itertools.combinations(range(len(names)), 2))
    half = normal_quantile(1 - 1e-6 / len(pairs)) / math.sqrt(draws)
    assert half < 0.1
    for i, j in pairs:
        assert abs(np.corrcoef(values[i], values[j])[0, 1]) < half
