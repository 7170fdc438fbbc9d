"""Raw moments of a named quantity, of any order that its price allows: by the engine, or through independent rank channels."""

from __future__ import annotations

import math
from functools import cache

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import BudgetError, InputError, NotDerivable
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.expectation import expectation
from rsverify.symbolic.moments.network import Tensor, Term, inner
from rsverify.symbolic.moments.sizes import spread
from rsverify.symbolic.steps.polynomial import MAX_TERMS, observed
from rsverify.symbolic.steps.several import up_and_down


def raw_moment(
    adapter: Adapter | str,
    order: int,
    *,
    optimizer: Optimizer | str = "sgd",
    quantity: str = "update",
    statistic: str = "rms",
    probe: str = "aligned",
    steps: int = 1,
) -> sp.Expr:
    """E of the order-th power of a quantity under SGD, exact: in r, the widths, gamma, lr and the data's invariants.

    Args: statistic says of what: `rms` of an entry (the mean over entries of y_j**order), `frobenius` of the length |y| (even orders),
        `projection` of the signed component along -v or x.
    Raises: BudgetError naming the count of partitions first where the order is too high; NotDerivable, InputError.
    """
    if not isinstance(order, int) or isinstance(order, bool) or order < 1:
        raise InputError(f"order={order!r}; expected a whole number from 1")
    asked = setting(adapter, "1", optimizer=optimizer, quantity=quantity, statistic=statistic, probe=probe, steps=steps)
    claim, adapter = asked.claim, asked.adapter
    if asked.optimizer.name not in ("sgd", "momentum") or asked.optimizer.option("clip"):
        raise NotDerivable(f"raw moments are written for sgd and momentum; {asked.optimizer.text} is not polynomial in the draws")
    if statistic == "frobenius" and order % 2 and quantity != "loss_decrease":
        raise InputError(f"order={order} of a length; expected an even order, because |y| itself is no polynomial of the draws")
    y, direction = observed(adapter, asked.optimizer, claim)
    if len(y) ** order > MAX_TERMS**2:
        raise BudgetError(
            f"order {order} of {quantity} of {adapter.expression!r} multiplies out {len(y)}**{order} networks, at most {MAX_TERMS**2};"
            " ask for a lower order, or sample it", needed=len(y) ** order, allowed=MAX_TERMS**2, unit="networks",
        )  # fmt: skip
    length: sp.Expr = sp.Integer(1)
    if quantity == "loss_decrease":
        power = _power(y, order)
    elif statistic == "projection":
        power = _power(inner(y, direction), order)
        length = sp.sqrt(s.x_norm2 if quantity == "input_gradient" else s.v_norm2) ** order
    elif statistic == "frobenius":
        power = _power(inner(y, y), order // 2)
    else:
        power = _entrywise(y, order)
        length = s.d_in if quantity == "input_gradient" else s.d_out
    found = expectation(power, adapter) / length
    return sp.factor_terms(found.subs(s.cosine, sp.nsimplify(claim.cosine, rational=True)))


def _power(scalar: Tensor, order: int) -> Tensor:
    """A scalar to a whole power."""
    found = scalar
    for _ in range(order - 1):
        found = inner(found, scalar)
    return found


def _entrywise(y: Tensor, order: int) -> Tensor:
    """The sum over entries of y**order: all copies share the free indices."""
    found = y
    for _ in range(order - 1):
        product = []
        for a in found:
            for b in y:
                left, right = a.renamed(), b.renamed()
                right = right.joined(right.free, left.free)
                product.append(Term(left.coefficient * right.coefficient, left.atoms + right.atoms, left.free))
        found = tuple(product)
    return tuple(Term(term.coefficient, term.atoms) for term in found)


def channel_moment(adapter: Adapter, order: int, *, probe: bool = False) -> sp.Expr:
    """E (x'W x)**order for W = A_0'A_0 through the cumulants of independent rank channels: a route of its own beside the engine.

    In words: x'Wx is the sum over channels k = 1..r of z_k = (a_k.x)**2, or (a_k.x)(a_k.x') with a probe. The joint cumulants of the linear
    forms a.x, a.x' are the law's cumulants times power sums; their moments give those of one z, the cumulants of a sum of r are r times
    those of one, and moments follow from cumulants. The cost is that of one channel: E |A_0 x|**8 = variance**4 |x|**8 r (r+2) (r+4) (r+6).
    """
    names = up_and_down(adapter)
    if names is None or not adapter.laws[names[1]].independent:
        raise NotDerivable(f"rank channels are independent for LoRA with B = 0 and independent entries of A, not for {adapter.name!r}")
    law, size = adapter.laws[names[1]], spread(adapter, names[1])

    @cache
    def linear(a: int, b: int) -> sp.Expr:
        """E (a.x)**a (a.x')**b, by the block that holds one of the forms."""
        if a + b == 0:
            return sp.Integer(1)
        total = []
        for i in range(a + 1):
            for j in range(b + 1):
                # The distinguished form is one of the a if there is one, else one of the b.
                ways = math.comb(a - 1, i - 1) * math.comb(b, j) if a and i else math.comb(b - 1, j - 1) if not a and j else 0
                cumulant = law.standard_cumulant(i + j) if ways else 0
                if cumulant:
                    block = sp.Rational(cumulant) * size ** (i + j) * s.power_sum(i, j)
                    total.append(ways * block * linear(a - i, b - j))
        return sp.expand(sp.Add(*total))

    one = [linear(m, m) if probe else linear(2 * m, 0) for m in range(order + 1)]
    cumulants: list[sp.Expr] = [sp.Integer(0)]
    for m in range(1, order + 1):
        lower = (math.comb(m - 1, j - 1) * cumulants[j] * one[m - j] for j in range(1, m))
        cumulants.append(sp.expand(one[m] - sp.Add(*lower)))
    moments: list[sp.Expr] = [sp.Integer(1)]
    for m in range(1, order + 1):
        moments.append(sp.expand(sp.Add(*(math.comb(m - 1, j - 1) * s.r * cumulants[j] * moments[m - j] for j in range(1, m + 1)))))
    return moments[order]
