"""The moments of |A x|^2 for Gaussian A: products r (r + 2) (r + 4) ..., at every rank, by two routes."""

from math import prod

import sympy as sp

from rsverify.proving import BallBound, Identity, Induction, Lemma, Step, mean, run_alone

r, variance, x_norm2, xi, n, q, rest, power, phi = sp.symbols("r variance x_norm2 xi n q rest power phi", positive=True)
a, u, z = sp.symbols("a u z")
mean_norm = sp.sqrt(2) * sp.gamma((r + 1) / 2) / sp.gamma(r / 2)
half, third = sp.Rational(1, 2), sp.Rational(1, 3)


def gaussian(order: int, of_variance: sp.Expr) -> sp.Expr:
    """E of a centred normal draw to an even power: (order - 1)!! times its variance to half of it."""
    return prod(range(1, order, 2)) * of_variance ** (order // 2)


def table(of_variance: sp.Expr, orders: int = 8) -> dict[tuple[int, ...], sp.Expr]:
    return {(k,): gaussian(k, of_variance) if k % 2 == 0 else sp.Integer(0) for k in range(1, orders + 1)}


def claim(order: int) -> sp.Expr:
    """E (|A x|^2)^order."""
    return (variance * x_norm2) ** order * sp.Mul(*(r + 2 * k for k in range(order)))


def one_input_more(order: int):
    """E (u + a xi)^order for one more input of size xi with weight a, from the moments of u before."""

    def recursion(previous: sp.Expr) -> sp.Expr:
        return mean((u + a * xi) ** order, ((u,), table(variance * x_norm2) | {(order,): previous}), ((a,), table(variance)))

    return recursion


def one_channel_more(order: int):
    """E (q + u^2)^order for one more independent channel u, from the moments of q."""

    def recursion(previous: sp.Expr) -> sp.Expr:
        of_q = {(k,): claim(k) for k in range(1, order)} | {(order,): previous}
        return mean((q + u**2) ** order, ((q,), of_q), ((u,), table(variance * x_norm2)))

    return recursion


ZERO = sp.Integer(0)
NO_INPUT, ANOTHER_INPUT = {x_norm2: ZERO}, {x_norm2: x_norm2 + xi**2}
NO_CHANNEL, ANOTHER_CHANNEL = {r: ZERO}, {r: r + 1}

lemma = Lemma(
    name="gaussian-norm-moments",
    statement=(
        "For A with independent N(0, variance) entries, E |A x|^(2n) = (variance |x|^2)^n r (r + 2) ... (r + 2n - 2);"
        " E |A x|^8 goes with r (r + 2) (r + 4) (r + 6)."
    ),
    assumptions=("the entries of A are independent, normal, of mean zero and variance `variance`", "x is given"),
    uses=(),
    source="classical (chi-square); Kalajdzievski 2023, arXiv 2312.03732, asks for moments of every order (the paper itself not seen)",
    steps=(
        Step(
            "Integration by parts, for every n: with density phi, phi' = -z phi, the derivative of z^(n-1) phi is below (power = z^(n-2));"
            " it integrates to zero, so E z^n = (n - 1) E z^(n-2), and E z^2, z^4, z^6, z^8 are 1, 3, 15, 105.",
            Identity((n - 1) * power * phi + power * z * (-z * phi), (n - 1 - z**2) * power * phi),
        ),
        *(
            Step(
                f"One channel u = a.x: one more input keeps E u^{order} = {gaussian(order, sp.Integer(1))} (variance |x|^2)^{order // 2}.",
                Induction(gaussian(order, variance * x_norm2), NO_INPUT, ANOTHER_INPUT, ZERO, one_input_more(order), f"E_u{order}"),
            )
            for order in (2, 4, 6, 8)
        ),
        *(
            Step(
                f"|A x|^2 adds independent channels: one more keeps E |A x|^{2 * order}.",
                Induction(claim(order), NO_CHANNEL, ANOTHER_CHANNEL, ZERO, one_channel_more(order), f"E_q{order}"),
                f"moment_{order}",
            )
            for order in (1, 2, 3, 4)
        ),
        Step(
            "The second route, for every n: the divergence of u q^n, q = |u|^2, is r q^n + 2 n q^n, and its mean is"
            " E q^(n+1) / (variance |x|^2); below, rest = q^(n-1).",
            Identity(r * q * rest + n * rest * (2 * q), (r + 2 * n) * q * rest),
        ),
        Step(
            "The mean norm itself, in units of sqrt(variance) |x|, is sqrt(2) gamma((r + 1)/2) / gamma(r/2) (a chi variable's,"
            " classical): above sqrt(r - 1/2).",
            BallBound(sp.sqrt(r - half), mean_norm, r, 4096, (("coefficient", (sp.sqrt(r - third), mean_norm)),)),
        ),
        Step(
            "And below sqrt(r - 1/2 + 1/(4 r)).",
            BallBound(
                mean_norm,
                sp.sqrt(r - half + 1 / (4 * r)),
                r,
                4096,
                (
                    ("sign", (mean_norm, sp.sqrt(r - half - 1 / (4 * r)))),
                    ("coefficient", (mean_norm, sp.sqrt(r - half + 1 / (9 * r)))),
                ),
            ),
            "norm_below",
        ),
    ),
    remarks=(
        "At finite rank E |A x|^8 is not r^4: its log-log slope between r = 4 and 64 is below 4. Compare curves, not slopes.",
        "Other laws add terms in their excess kurtosis and in sums of powers of x: channel-moments.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
