"""Ranks as users write them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsverify.definitions.ranks import parse_ranks
from rsverify.errors import InputError


@pytest.mark.parametrize(
    ("given_", "ranks"),
    [
        ("4,8,16", (4, 8, 16)),
        ("4:64", (4, 8, 16, 32, 64)),
        ("2**40", (2**40,)),
        ("1", (1,)),
        ("4:4", (4,)),
        (" 3 , 5 ", (3, 5)),
        ("1,4:16,24", (1, 4, 8, 16, 24)),
        ("4:2**6", (4, 8, 16, 32, 64)),
        ([4, 8], (4, 8)),
        (np.array([2, 3]), (2, 3)),
        (range(1, 4), (1, 2, 3)),
        (["4:8", 9], (4, 8, 9)),
    ],
)
def test_ranks_are_read(given_, ranks: tuple[int, ...]) -> None:
    found = parse_ranks(given_)
    assert found == ranks and all(type(rank) is int for rank in found)


@pytest.mark.parametrize(
    ("given_", "problem"),
    [
        ("0", "0 is not a rank"),
        ("-4", "-4 is not a rank"),
        ("4,4", "4 is repeated"),
        ("8,4", "4 comes after 8"),
        ("4.0", "'4.0' is not a whole"),
        ("1.5", "not a whole number"),
        ("", "not a whole number"),
        ("4,,8", "not a whole number"),
        ("four", "not a whole number"),
        ("4:60", "powers of two"),
        ("64:4", "powers of two"),
        ("3:48", "powers of two"),
        ("4:", "not a whole number"),
        ("1e3", "not a whole number"),
        ([], "is empty"),
        ([4.0], "not a whole number"),
        ([True], "not a whole number"),
        ([None], "not a whole number"),
        ("3**2", "not a whole number"),
        ("4:16,16", "repeated"),
        ("__import__('os')", "not a whole number"),
        ("nan", "not a whole number"),
        ("2**9999", "not a whole number"),
        ([4, 0], "0 is not a rank"),
    ],
)
def test_bad_ranks_are_refused_with_an_example(given_, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_ranks(given_)
    assert problem in str(caught.value) and "4,8,16" in str(caught.value)


@given(st.sets(st.integers(1, 10**20), min_size=1).map(sorted))
def test_a_list_and_its_text_are_the_same(ranks: list[int]) -> None:
    assert parse_ranks(ranks) == parse_ranks(",".join(map(str, ranks))) == tuple(ranks)
