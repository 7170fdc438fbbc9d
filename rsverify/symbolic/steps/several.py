"""Any number of SGD steps of LoRA, B = 0 at init: B_k = Q_k A_0' and A_k = A_0 M_k, with Q_k and M_k free of the draw A_0.

The gradients are g_B = gamma v (A_k x)' and g_A = gamma B_k' v x', so that both recursions keep A_0 on one side:
Q changes by -lr gamma v x' M_k', M by -lr gamma Q_k' v x'. The output gamma Q_k A_0'A_0 M_k x' is then quadratic in A_0, whose
second moments the tensor-network engine gives for every law. Momentum and weight decay act on Q and M alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Zero
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import BudgetError, NotDerivable
from rsverify.records import Claim
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.expectation import expectation
from rsverify.symbolic.moments.network import Atom, Index, Tensor, Term
from rsverify.symbolic.moments.sizes import factor_size
from rsverify.symbolic.steps.magnitude import exact_number
from rsverify.symbolic.steps.polynomial import asked_gradients, learning_rate_ratio

MAX_STEPS = 100
"""Of plain SGD: the exponent is read off all 4 k powers of the learning rate, which takes seconds here and minutes at 400."""
MAX_LENGTH = 60
"""Terms of one coefficient of Q or M: above this reading off the exponents takes more than ten seconds."""


@dataclass(frozen=True)
class Coefficients:
    """On one repeated sample Q_k = q v x' and M_k = a 1 + m x x'."""

    q: sp.Expr
    a: sp.Expr
    m: sp.Expr


def up_and_down(adapter: Adapter) -> tuple[str, str] | None:
    """Names of B and A where the adapter is LoRA with B = 0 and trained; None for any other structure."""
    rows, columns = adapter.result
    if len(adapter.operands) != 2 or len(rows) != 1 or len(columns) != 1 or len(adapter.rank_axes) != 1:
        return None
    by_axes = {frozenset(axes): name for name, axes in adapter.operands.items() if len(axes) == 2}
    up, down = by_axes.get(frozenset((*rows, *adapter.rank_axes))), by_axes.get(frozenset((*adapter.rank_axes, *columns)))
    if up is None or down is None or not isinstance(adapter.laws[up], Zero):
        return None
    return up, down


def coefficients(adapter: Adapter, optimizer: Optimizer, steps: int) -> Coefficients:
    """q, a and m after so many steps, as polynomials in lr, gamma and the squared norms.

    Raises: BudgetError where they have too many terms.
    """
    names = up_and_down(adapter)
    assert names is not None
    up, down = names
    decay, kept = exact_number(optimizer.option("weight_decay")), momentum(optimizer)
    rate_b = s.lr * learning_rate_ratio(optimizer, adapter, up)
    rate_a = s.lr * learning_rate_ratio(optimizer, adapter, down) if down in adapter.trainable else sp.Integer(0)
    if steps > MAX_STEPS:
        raise BudgetError(
            f"{steps} steps make a polynomial of degree {4 * steps} in the learning rate; at most {MAX_STEPS} steps are written out,"
            " `pathwise` gives the closed form of any number", needed=steps, allowed=MAX_STEPS, unit="steps",
        )  # fmt: skip
    if not decay and not kept and rate_a == s.lr and rate_b == s.lr:
        return repeated(steps)
    q, a, m = sp.Integer(0), sp.Integer(1), sp.Integer(0)
    buffer_q = buffer_a = buffer_m = sp.Integer(0)
    for step in range(1, steps + 1):
        buffer_q = sp.expand(kept * buffer_q + s.gamma * (a + m * s.x_norm2) + decay * q)
        buffer_a = sp.expand(kept * buffer_a + decay * a)
        buffer_m = sp.expand(kept * buffer_m + s.gamma * q * s.v_norm2 + decay * m)
        q, a, m = sp.expand(q - rate_b * buffer_q), sp.expand(a - rate_a * buffer_a), sp.expand(m - rate_a * buffer_m)
        length = max(len(sp.Add.make_args(value)) for value in (q, a, m))
        if length > MAX_LENGTH:
            raise BudgetError(
                f"after {step} of {steps} steps of {optimizer.text} the coefficients have {length} terms, at most {MAX_LENGTH} are written;"
                " ask for fewer steps, or sample them", needed=length, allowed=MAX_LENGTH, unit="terms",
            )  # fmt: skip
    return Coefficients(q, a, m)


def momentum(optimizer: Optimizer) -> sp.Expr:
    """The share of its buffer that an optimizer keeps; none for plain SGD."""
    return exact_number(optimizer.option("momentum")) if optimizer.name == "momentum" else sp.Integer(0)


def repeated(steps: int) -> Coefficients:
    """The closed form of plain SGD: with t = lr gamma |v| |x|, 1 + m |x|**2 -+ q |v| |x| = (1 +- t)**steps.

    In words: one step maps p = 1 + m |x|**2 and u = |v| |x| q to p - t u and u - t p: it multiplies p - u by 1 + t and p + u by 1 - t.
    """
    size = sp.sqrt(s.v_norm2) * sp.sqrt(s.x_norm2)
    t = s.lr * s.gamma * size
    grown, shrunk = (1 + t) ** steps, (1 - t) ** steps
    return Coefficients((shrunk - grown) / (2 * size), sp.Integer(1), ((grown + shrunk) / 2 - 1) / s.x_norm2)


def pathwise(steps: int, response2: sp.Expr) -> sp.Expr:
    """The coefficient c of gamma B_k A_k x = c v under plain SGD on one repeated sample, given |A_0 x|**2.

    In words: c = -gamma |A_0 x|**2 [(1+t)**(2k) - (1-t)**(2k)] / (4 |v| |x|), t = lr gamma |v| |x|: exact for every draw.
    """
    size = sp.sqrt(s.v_norm2) * sp.sqrt(s.x_norm2)
    t = s.lr * s.gamma * size
    return -s.gamma * response2 * ((1 + t) ** (2 * steps) - (1 - t) ** (2 * steps)) / (4 * size)


def chi_square_moment(order: int, variance: sp.Expr) -> sp.Expr:
    """E |A_0 x|**(2 order) for Gaussian A of the given variance: that of variance |x|**2 times a chi-square of r degrees of freedom."""
    return (variance * s.x_norm2) ** order * sp.Mul(*(s.r + 2 * k for k in range(order)))


@dataclass(frozen=True)
class Forms:
    """E of products of S = x'Wx, P = x'Wx' (sample and probe) and |Wx|**2, W = A_0'A_0; `mean_probe` is E P."""

    mean: sp.Expr
    mean_probe: sp.Expr
    square: sp.Expr
    mixed: sp.Expr
    square_probe: sp.Expr
    length: sp.Expr


def forms(adapter: Adapter) -> Forms:
    """The moments of A_0 that all quantities of k steps are made of."""
    names = up_and_down(adapter)
    assert names is not None
    down = names[1]
    axes = adapter.operands[down]

    def quadratic(*pairs: tuple[str, str]) -> Tensor:
        atoms: list[Atom] = []
        for left, right in pairs:
            rank = {axis: Index.new(axis) for axis in axes if axis in adapter.rank_axes}
            for vector in (left, right):
                own = {**{axis: Index.new(axis) for axis in axes if axis not in rank}, **rank}
                column = next(own[axis] for axis in axes if axis not in rank)
                atoms += [Atom(down, tuple(own[axis] for axis in axes)), Atom(vector, (column,))]
        return (Term(sp.Integer(1), tuple(atoms)),)

    def long() -> Tensor:
        """|W x|**2: the two outer columns are one index."""
        (term,) = quadratic(("x", "x"), ("x", "x"))
        first, second = (term.atoms[k].indices[0] for k in (1, 5))
        atoms = tuple(atom for k, atom in enumerate(term.atoms) if k not in (1, 5))
        return (Term(term.coefficient, atoms).joined([second], [first]),)

    def mean(*pairs: tuple[str, str]) -> sp.Expr:
        return expectation(quadratic(*pairs), adapter)

    sample, probe = ("x", "x"), ("x", "x'")
    return Forms(
        mean(sample), mean(probe), mean(sample, sample), mean(sample, probe), mean(probe, probe), expectation(long(), adapter)
    )  # fmt: skip


def magnitude(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> tuple[sp.Expr, bool]:
    """The claim's magnitude after any number of steps: (E of the square, True), or for a projection (the signed mean, False)."""
    k, f = coefficients(adapter, optimizer, claim.steps), forms(adapter)
    names = up_and_down(adapter)
    assert names is not None
    up, down = names
    kind = claim.quantity.partition(":")[0]
    inner = s.cosine * s.x_norm2  # x . x'
    if kind in ("output", "update"):
        reach = s.gamma * k.q
        if claim.statistic == "projection":
            return -reach * sp.sqrt(s.v_norm2) * (k.a * f.mean_probe + k.m * inner * f.mean), False
        square = k.a**2 * f.square_probe + 2 * k.a * k.m * inner * f.mixed + k.m**2 * inner**2 * f.square
        return reach**2 * s.v_norm2 * square / (s.d_out if claim.statistic == "rms" else 1), True
    if kind == "input_gradient":
        reach = s.gamma * k.q * s.v_norm2
        if claim.statistic == "projection":
            return reach * (k.a + k.m * s.x_norm2) * f.mean / sp.sqrt(s.x_norm2), False
        square = k.a**2 * f.length + (2 * k.a * k.m + k.m**2 * s.x_norm2) * f.square
        return reach**2 * square / (s.d_in if claim.statistic == "rms" else 1), True
    if kind == "loss_decrease":
        reach = -s.gamma * k.q * s.v_norm2
        return (reach * f.mean, False) if claim.statistic == "projection" else (reach**2 * f.square, True)
    if claim.statistic == "projection":
        raise NotDerivable("a projection is defined for output, update, input_gradient and loss_decrease only")
    of = {
        up: (s.gamma * (k.a + k.m * s.x_norm2)) ** 2 * s.v_norm2 * f.mean,
        down: (s.gamma * k.q * s.v_norm2) ** 2 * s.x_norm2 * f.mean,
    }
    asked = asked_gradients(adapter, claim)
    return sp.Add(*(of[name] for name in asked)) / (factor_size(adapter, asked) if claim.statistic == "rms" and claim.factor else 1), True
