"""Wishart matrices against rows of normals: laws, nested ranks, and wrong samplers that the comparison catches.

Every Kolmogorov-Smirnov test below fails falsely at rate 1e-7, some 60 of them: once in 1e5 for this file.
"""

import itertools

import numpy as np
import pytest
from scipy import stats

from rsverify.errors import InputError
from rsverify.statistics import wishart
from rsverify.statistics.rounding import gamma_n
from rsverify.statistics.streams import stream
from rsverify.statistics.wishart import NestedWishart, gram, wishart_factor

RATE, DRAWS, K = 1e-7, 4000, 4


def _factor(r, *, k=K, draws=DRAWS, seed=0):
    return wishart_factor(draws, k, r, chi=stream(seed, "chi", r), normal=stream(seed, "normal", r))


def _rows(r, *, k=K, draws=DRAWS):
    rows = stream(99, "rows", r).standard_normal((draws, r, k))
    return np.stack([sum(np.outer(z, z) for z in draw) for draw in rows])


def _views(w):
    """Numbers that see each part of the triangle: entries, a mixed form, the sum of squares."""
    c = np.array([1.0, -2.0, 0.5, 3.0])[: w.shape[1]]
    return [w[:, 0, 0], w[:, 1, 1], w[:, -1, -1], w[:, 0, -1], w[:, 1, 2], np.einsum("i,nij,j->n", c, w, c), (w**2).sum(axis=(1, 2))]


@pytest.mark.statistical
@pytest.mark.parametrize("r", [1, 3, 4, 5, 40])
def test_bartlett_has_the_law_of_summed_rows_below_at_and_above_k(r):
    for mine, theirs in zip(_views(gram(_factor(r))), _views(_rows(r)), strict=True):
        assert stats.ks_2samp(mine, theirs).pvalue > RATE


def _wrong(kind):
    right = wishart_factor

    def mutant(draws, k, r, *, chi, normal):
        if kind == "degrees of freedom" and r >= k:
            found = right(draws, k, r, chi=chi, normal=normal)
            found[:, range(k), range(k)] = np.sqrt(2 * chi.standard_gamma(r / 2, (draws, k)))
            return found
        found = right(draws, k, r, chi=chi, normal=normal)
        if kind == "off-diagonal dropped":
            return found * np.eye(k)
        if kind == "chi square for chi":
            found[:, range(k), range(k)] **= 2
        if kind == "transposed":
            return np.swapaxes(found, 1, 2)
        return found

    return mutant


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["degrees of freedom", "off-diagonal dropped", "chi square for chi", "transposed"])
def test_the_comparison_catches_a_wrong_triangle(kind):
    wrong = gram(_wrong(kind)(DRAWS, K, 5, chi=stream(0, "chi", 5), normal=stream(0, "normal", 5)))
    values = [stats.ks_2samp(mine, theirs).pvalue for mine, theirs in zip(_views(wrong), _views(_rows(5)), strict=True)]
    assert min(values) < RATE


@pytest.mark.statistical
def test_chi_at_two_to_the_fortieth():
    r, k = 2**40, 3
    w = gram(_factor(r, k=k))
    # tr W is chi square of k r degrees: normal to within its skewness, sqrt(8 / (k r)) = 2e-6.
    z = (np.trace(w, axis1=1, axis2=2) / r - k) * np.sqrt(r / (2 * k))
    assert stats.kstest(z, "norm").pvalue > RATE
    assert stats.kstest(w[:, 0, 2] / np.sqrt(r), "norm").pvalue > RATE


def test_a_sample_in_portions_is_the_sample():
    whole = _factor(6, draws=50)
    chi, normal = stream(0, "chi", 6), stream(0, "normal", 6)
    parts = [wishart_factor(n, K, 6, chi=chi, normal=normal) for n in (7, 1, 42)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert _factor(6, draws=0).shape == (0, K, K)
    assert (np.tril(whole, -1) == 0).all()


@pytest.mark.parametrize(("draws", "k", "r"), [(1, 2, 0), (-1, 2, 3), (1, -1, 3)])
def test_sizes_are_refused(draws, k, r):
    with pytest.raises(InputError, match="degrees of freedom from 1"):
        wishart_factor(draws, k, r, chi=stream(0), normal=stream(0))
    with pytest.raises(InputError, match="r=0"):
        NestedWishart(2, 3, 0, "x").at(0)


@pytest.mark.statistical
@pytest.mark.parametrize("pair", [(1, 3), (4, 5), (8, 9), (13, 64), (100, 101), (16, 2**20 + 77)])
def test_nested_ranks_have_independent_increments_of_the_right_law(pair):
    low, high = pair
    tree = NestedWishart(K, DRAWS, 0, "nested")
    w, more = tree.at(low), tree.at(high) - tree.at(low)
    traces = [np.trace(m, axis1=1, axis2=2) for m in (w, more)]
    assert stats.kstest(traces[0], stats.chi2(K * low).cdf).pvalue > RATE
    assert stats.kstest(traces[1], stats.chi2(K * (high - low)).cdf).pvalue > RATE
    # Off-diagonal entries given the law: sums over rows of products of two normals, equal in law to (chi2 - chi2') / 2.
    rng = stream(5, "pair", high - low)
    theirs = (rng.chisquare(high - low, DRAWS) - rng.chisquare(high - low, DRAWS)) / 2
    assert stats.ks_2samp(more[:, 0, 2], theirs).pvalue > RATE
    for a, b in [(traces[0], traces[1]), (w[:, 0, 1], more[:, 0, 1]), (w[:, 1, 1], more[:, 1, 1])]:
        assert stats.spearmanr(a, b).pvalue > RATE


@pytest.mark.statistical
def test_halves_of_a_block_are_independent_and_add_up():
    tree = NestedWishart(K, DRAWS, 0, "halves")
    left = tree.at(64 + 32) - tree.at(64)
    right = tree.at(128) - tree.at(64 + 32)
    for m in (left, right):
        assert stats.kstest(m[:, 2, 2], stats.chi2(32).cdf).pvalue > RATE
    for i, j in [(0, 0), (0, 1), (3, 3)]:
        assert stats.spearmanr(left[:, i, j], right[:, i, j]).pvalue > RATE


@pytest.mark.statistical
def test_a_wrong_split_is_seen(monkeypatch):
    right = NestedWishart._part

    def mutant(self, level, index, whole, rows):  # half of the block's sum instead of a random share of it
        return whole * (rows / 2**level) if level > self.leaf else right(self, level, index, whole, rows)

    monkeypatch.setattr(NestedWishart, "_part", mutant)
    tree = NestedWishart(K, DRAWS, 0, "halves")
    left = tree.at(64 + 32) - tree.at(64)
    assert stats.kstest(left[:, 2, 2], stats.chi2(32).cdf).pvalue < RATE


def test_no_nested_number_depends_on_the_other_ranks_or_the_number_of_draws():
    ranks = [1, 3, 16, 37, 1000, 2**30 + 5]
    together = NestedWishart(K, 20, 3, "canonical")
    for r in reversed(ranks):
        together.at(r)
    for r in ranks:
        np.testing.assert_array_equal(NestedWishart(K, 20, 3, "canonical").at(r), together.at(r))
        np.testing.assert_allclose(NestedWishart(K, 5, 3, "canonical").at(r), together.at(r)[:5], rtol=1e-13)
    for low, high in itertools.pairwise(ranks):  # sums of squares, to the rounding of k terms as large as the trace
        more = together.at(high) - together.at(low)
        assert (np.linalg.eigvalsh(more).min(axis=1) > -gamma_n(64 * K) * np.trace(together.at(high), axis1=1, axis2=2)).all()
    assert wishart.NestedWishart(1, 2, 0, "one").at(5).shape == (2, 1, 1)
