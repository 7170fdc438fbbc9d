"""The engine's expectations: the paper's moments fall out, and brute-force enumeration agrees exactly."""

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian, KaimingUniform, Law, Uniform, Zero
from rsverify.expressions import Expression
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.expectation import expectation
from rsverify.symbolic.moments.network import Atom, Index, Term

S2 = sp.Symbol("s2", positive=True)


def lora(law: Law) -> Adapter:
    return Adapter("lora", "o r, r i -> o i", B=Zero(), A=law)


def quadratic(order: int, left: str = "x'", right: str = "x") -> tuple[Term, ...]:
    """(x' A'A x)**order as a network."""
    atoms: list[Atom] = []
    for _ in range(order):
        k, i, j = Index.new("r"), Index.new("i"), Index.new("i")
        atoms += [Atom("A", (k, i)), Atom("A", (k, j)), Atom(left, (i,)), Atom(right, (j,))]
    return (Term(sp.Integer(1), tuple(atoms)),)


def test_first_and_second_moment_of_the_gaussian_quadratic_form():
    adapter, c = lora(Gaussian(std=1)), s.cosine * s.x_norm2
    assert sp.expand(expectation(quadratic(1), adapter) - s.r * c) == 0
    assert sp.expand(expectation(quadratic(2), adapter) - (s.r**2 * c**2 + s.r * (s.x_norm2**2 + c**2))) == 0


def test_corrupted_moments_are_refused():
    found = sp.expand(expectation(quadratic(2), lora(Gaussian(std=1))))
    c = s.cosine * s.x_norm2
    for wrong in (s.r**2 * c**2 + 2 * s.r * c**2, s.r**2 * c**2 - s.r * (s.x_norm2**2 + c**2), s.r * c**2 + s.r * (s.x_norm2**2 + c**2)):
        assert sp.expand(found - wrong) != 0


def test_eighth_moment_of_the_response():
    found = sp.factor(expectation(quadratic(4, "x", "x"), lora(Gaussian(std=1))))
    assert sp.expand(found - s.x_norm2**4 * s.r * (s.r + 2) * (s.r + 4) * (s.r + 6)) == 0


def test_kurtosis_of_a_uniform_enters_through_a_power_sum():
    found = expectation(quadratic(2), lora(Uniform(bound=1)))
    gaussian = expectation(quadratic(2), lora(Gaussian(std=1))) / 9
    excess = sp.expand(found - gaussian)
    assert excess == sp.Rational(-2, 15) * s.r * sp.Symbol("S22", real=True)


@dataclass(frozen=True)
class Signs(Law):
    """Independent signs: small enough to enumerate."""

    @property
    def spread(self) -> Expression:
        return Expression("1")

    def standard_moment(self, order: int) -> Fraction:
        return Fraction(int(order % 2 == 0))

    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.choice([-1.0, 1.0], shape)

    def text(self) -> str:
        return "signs"


@pytest.mark.parametrize(("rank", "d", "order"), [(1, 3, 1), (2, 2, 2), (3, 2, 2), (2, 3, 2), (2, 2, 3), (1, 3, 4)])
def test_equals_brute_force_enumeration(rank, d, order):
    x = [Fraction(k + 1) for k in range(d)]
    probe = [-x[-1], *x[:-1]]  # the same length, another direction
    total = Fraction(0)
    for signs in itertools.product((-1, 1), repeat=rank * d):
        rows = [signs[k * d : (k + 1) * d] for k in range(rank)]
        q = sum(sum(a * b for a, b in zip(row, x, strict=True)) * sum(a * b for a, b in zip(row, probe, strict=True)) for row in rows)
        total += q**order
    found = expectation(quadratic(order), lora(Signs()))
    norm2 = sum(u * u for u in x)
    values = {s.r: rank, s.d_in: d, s.x_norm2: norm2, s.cosine: sum(u * v for u, v in zip(x, probe, strict=True)) / norm2}
    for symbol in found.free_symbols - values.keys():
        a, b = (int(digit) for digit in symbol.name[1:])
        values[symbol] = sum(u**a * v**b for u, v in zip(x, probe, strict=True))
    exact = {symbol: sp.Rational(str(value)) for symbol, value in values.items()}
    assert found.subs(exact) == sp.Rational(str(total / 2 ** (rank * d)))


def test_numbers_of_a_kaiming_uniform_agree_with_sampling():
    """A mean over 4000 draws within 6 standard errors: false at most once in 1e8."""
    rng = np.random.default_rng(7)
    d, rank = 6, 5
    x, probe = rng.standard_normal(d), rng.standard_normal(d)
    probe *= np.linalg.norm(x) / np.linalg.norm(probe)
    draws = rng.uniform(-1, 1, (4000, rank, d)) / np.sqrt(d)
    q2 = np.einsum("nri,i,nrj,j->n", draws, x, draws, probe, optimize=True) ** 2
    found = expectation(quadratic(2), lora(KaimingUniform()))
    c = float(x @ probe / (x @ x))
    values = {s.r: rank, s.d_in: d, s.x_norm2: float(x @ x), s.cosine: c, sp.Symbol("S22", real=True): float((x**2 * probe**2).sum())}
    assert abs(float(found.subs(values)) - q2.mean()) < 6 * q2.std() / np.sqrt(len(q2))
