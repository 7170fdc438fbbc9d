"""Normal forms on drawn formulas: equal exactly where the values are, in sympy's ring, in python-flint's, and in plain fractions."""

from __future__ import annotations

from fractions import Fraction

import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from rsverify.proving import Inequality, Matrix, MatrixIdentity, eye, matrix, normalform
from rsverify.proving.corruption import corrupted

A, B, C = sp.symbols("a b c", positive=True)
leaves = st.sampled_from([A, B, C]) | st.integers(-3, 3).map(sp.Integer)


def combined(parts: st.SearchStrategy[sp.Expr]) -> st.SearchStrategy[sp.Expr]:
    two = st.tuples(parts, parts)
    return two.map(lambda p: p[0] + p[1]) | two.map(lambda p: p[0] * p[1]) | st.tuples(parts, st.integers(0, 3)).map(lambda p: p[0] ** p[1])


polynomials = st.recursive(leaves, combined, max_leaves=7)


@given(polynomials, polynomials)
def test_two_polynomials_are_equal_exactly_where_their_difference_expands_to_nothing(left: sp.Expr, right: sp.Expr) -> None:
    same, _ = normalform.equal(left, right)  # sympy's ring and python-flint's; a disagreement raises
    assert same == (sp.expand(left - right) == 0)
    assert same == (not normalform.counterexample(left, right))


@given(polynomials, polynomials, polynomials)
def test_a_common_factor_changes_nothing(top: sp.Expr, bottom: sp.Expr, factor: sp.Expr) -> None:
    if sp.expand(bottom) == 0 or sp.expand(factor) == 0:
        return
    assert normalform.equal(top * factor / (bottom * factor), sp.expand(top * factor) / sp.expand(bottom * factor))[0]


@given(polynomials)
def test_a_corrupted_formula_is_a_formula_of_the_same_symbols(formula: sp.Expr) -> None:
    for kind, twin in corrupted(formula):
        assert kind in ("coefficient", "sign", "exponent") and twin != formula and twin.free_symbols <= formula.free_symbols
        normalform.equal(formula, twin)


@given(polynomials, polynomials)
def test_z3_and_the_rings_agree_on_equality(left: sp.Expr, right: sp.Expr) -> None:
    if not (left.free_symbols | right.free_symbols) or sp.Poly(left + right, A, B, C).total_degree() > 4:
        return
    status = Inequality(sp.Eq(left, right, evaluate=False), (), ()).run().status
    assert status in ("undecided", "proved" if normalform.equal(left, right)[0] else "refuted")


matrices = st.recursive(
    st.sampled_from([matrix("P", "i", "i"), matrix("Q", "i", "i"), eye("i")]),
    lambda parts: (
        st.tuples(parts, parts).map(lambda p: p[0] @ p[1])
        | st.tuples(parts, parts).map(lambda p: p[0] + p[1])
        | parts.map(lambda p: p.T)
        | parts.map(lambda p: A * p)
    ),
    max_leaves=6,
)


@given(matrices, matrices, matrices)
def test_matrices_obey_the_laws_of_a_ring_with_transposes(x: Matrix, y: Matrix, z: Matrix) -> None:
    for left, right in (
        ((x @ y) @ z, x @ (y @ z)), (x @ (y + z), x @ y + x @ z), ((x @ y).T, y.T @ x.T), (x.T.T, x), (A * (x @ y), x @ (A * y)),
    ):  # fmt: skip
        assert MatrixIdentity(left, right).run().status == "proved"


@given(matrices, matrices)
def test_a_refuted_matrix_identity_comes_with_matrices(x: Matrix, y: Matrix) -> None:
    finding = MatrixIdentity(x, y).run()
    assert (finding.status == "refuted") == bool(finding.counterexample)


def test_roots_at_the_first_values_tried_do_not_hide_a_difference() -> None:
    hidden = (A - 2) * (A - 3) * (A - 5) * (A - 7) * (A - 11)
    assert normalform.counterexample(hidden, sp.Integer(0)).startswith("a = 13")


def test_exact_values_are_fractions() -> None:
    assert normalform.evaluate((A + 1) / B, {A: Fraction(1, 2), B: Fraction(3)}) == Fraction(1, 2)
    assert normalform.evaluate(1 / (A - B), {A: Fraction(1), B: Fraction(1)}) is None
