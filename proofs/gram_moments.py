"""Moments of S = A'A: how far A'A/r is from variance * I, for any law and exactly at every rank."""

import sympy as sp

from rsverify.proving import Identity, Induction, Inequality, Lemma, Limit, Step, mean, run_alone, taken

r, variance, fourth, x_norm2, d = sp.symbols("r variance fourth x_norm2 d", positive=True)
xi, third, skew = sp.symbols("xi third skew", real=True)
a, u, n = sp.symbols("a u n")
dot = sp.Symbol("dot", real=True)
ZERO = sp.Integer(0)

channel = taken("channel-moments")
mean_form = channel("mean_q", dot=x_norm2)  # E x'S x

of_a = {(1,): ZERO, (2,): variance, (3,): third, (4,): fourth}
row = x_norm2 * (fourth + (d - 1) * variance**2)  # E (a.x)^2 |a|^2 for one row a
square = r * x_norm2 * ((r - 1) * variance**2 + fourth + (d - 1) * variance**2)  # E |S x|^2
apart = r * x_norm2 * (fourth + (d - 2) * variance**2)  # E |S x - r variance x|^2


def one_input_more(before: sp.Expr) -> sp.Expr:
    """E (u + a xi)^2 (n + a^2), where u = a.x and n = |a|^2 are those of the inputs before."""
    of_un = {(1, 0): ZERO, (0, 1): d * variance, (2, 0): variance * x_norm2, (1, 1): skew, (2, 1): before}
    return mean((u + a * xi) ** 2 * (n + a**2), ((u, n), of_un), ((a,), of_a))


def one_row_more(before: sp.Expr) -> sp.Expr:
    """|S x + a (a.x)|^2 has the cross term 2 (a.x)(a.S x), of mean 2 variance x'S x: channel-moments, twice."""
    return before + 2 * channel("mean_one", dot=mean_form) + row


lemma = Lemma(
    name="gram-moments",
    statement=(
        "For S = A'A: E S = r variance I; E |S x|^2 = r |x|^2 ((r + d - 2) variance^2 + fourth), which is variance^2 |x|^2 r (r + d + 1)"
        " for normal A; and E |S/r - variance I|^2 = d (fourth + (d - 2) variance^2) / r in Frobenius norm."
    ),
    assumptions=("the entries of A (r by d) are independent and alike, of mean zero, with moments variance, third, fourth",),
    uses=("channel-moments",),
    source="classical (Wishart matrices)",
    steps=(
        Step(
            "E S = r variance I: for any x and x*, E x*'S x is r variance x*.x by channel-moments.",
            Identity(r * variance * dot, channel("mean_q"), "x*' (r variance I) x"),
            "mean_S",
        ),
        Step(
            "One row: E (a.x)^2 |a|^2, input by input.",
            Induction(row, {x_norm2: ZERO, d: ZERO}, {x_norm2: x_norm2 + xi**2, d: d + 1}, ZERO, one_input_more, "E_row"),
        ),
        Step(
            "Rows add to S: E |S x|^2, row by row; x'S x has mean r variance |x|^2 by channel-moments.",
            Induction(square, {r: ZERO}, {r: r + 1}, ZERO, one_row_more, "E_square"),
            "square",
        ),
        Step(
            "For a normal law, fourth = 3 variance^2.",
            Identity(square.subs(fourth, 3 * variance**2), variance**2 * x_norm2 * r * (r + d + 1)),
        ),
        Step(
            "The distance from the mean: E |S x|^2 - 2 r variance E x'S x + (r variance)^2 |x|^2.",
            Identity(square - 2 * r * variance * mean_form + (r * variance) ** 2 * x_norm2, apart),
            "apart",
        ),
        Step(
            "Summed over d unit vectors x and divided by r^2, this is E |S/r - variance I|^2; times r it tends to a constant.",
            Limit(r * d * apart.subs(x_norm2, 1) / r**2, d * (fourth + (d - 2) * variance**2), r, "r E |S/r - variance I|^2"),
        ),
        Step(
            "For one input that constant is fourth - variance^2, the mean of a square: zero where all entries have one size.",
            Identity((d * (fourth + (d - 2) * variance**2)).subs(d, 1), channel("kurtosis"), "the constant at d = 1"),
            "kurtosis",
        ),
        Step(
            "So from two inputs on that constant is not zero: the distance falls as r^(-1/2) and no faster.",
            Inequality(
                d * (fourth + (d - 2) * variance**2) >= variance**2 * d * (d - 1),
                (fourth >= variance**2, d >= 2),
                (
                    ("coefficient", d * (fourth + (d - 2) * variance**2) >= 2 * variance**2 * d * (d - 1)),
                    ("sign", d * (fourth - (d - 2) * variance**2) >= variance**2 * d * (d - 1)),
                    ("exponent", d * (fourth + (d - 2) * variance**2) >= variance**2 * d * (d - 1) ** 2),
                ),
            ),
        ),
        Step(
            "Width first: at a given rank E |S x|^2 / d tends to r variance^2 |x|^2, one power of r less.",
            Limit(square / d, r * variance**2 * x_norm2, d),
        ),
    ),
    remarks=(
        "With d = 1 and entries +-1, S = r exactly: the fluctuation vanishes, which is why two inputs are asked for.",
        "The two regimes differ: r to infinity at given d gives r^2, d to infinity first gives r d.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
