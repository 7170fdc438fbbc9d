"""The theorem's first condition, after one step of SGD: what the adapter adds is of order one exactly when gamma^2 r is."""

import sympy as sp

from rsverify.proving import Identity, Inequality, Lemma, Limit, MatrixIdentity, Step, matrix, run_alone, taken, vector

r, gamma, alpha, lr, variance, fourth, x_norm2, probe_norm2, v = sp.symbols(
    "r gamma alpha lr variance fourth x_norm2 probe_norm2 v", positive=True
)
power_sum, spread = sp.symbols("S22 spread", nonnegative=True)
dot, size, low, high, n, t, c, t_n, c_n = sp.symbols("dot size low high n t c t_n c_n", positive=True)
A_0, B, x, probe, signal = matrix("A_0", "r", "i"), matrix("B", "o", "r"), vector("x", "i"), vector("x*", "i"), vector("v", "o")

sgd, channel, norms, theta = map(taken, ("sgd-keeps-the-form", "channel-moments", "gaussian-norm-moments", "theta-of-gamma"))
mean_q, square_q, rest = (channel(name, dot=dot) for name in ("mean_q", "square_q", "rest"))
mean_y = -(gamma**2) * lr * v * mean_q
square_y = (gamma**2 * lr * v) ** 2 * square_q
across = square_q.subs(dot, 0)  # the probe orthogonal to the sample
product = norms("moment_4", variance=1, x_norm2=1)  # E q^4 in units of (variance |x|^2)^4

lemma = Lemma(
    name="forward-clause",
    statement=(
        "After one SGD step an output entry on a probe x* is y = -gamma^2 lr v q with q = x*' A_0'A_0 x: E y = -gamma^2 r lr v variance"
        " dot, and"
        " every moment of y is of order one exactly when gamma^2 r is, provided dot = x.x* is not zero."
    ),
    assumptions=(
        "LoRA with B_0 = 0 and independent centred entries of A_0 whose moments are free of r; sample x, probe x*, signal v given and"
        " free of r",
    ),
    uses=("sgd-keeps-the-form", "channel-moments", "gaussian-norm-moments", "theta-of-gamma"),
    source=(
        "Kalajdzievski 2023, arXiv 2312.03732, Theorem 3.2 with Definition 3.1, condition 1 (both quoted in notes on the paper; the"
        " paper itself not seen)"
    ),
    steps=(
        Step(
            "The output after the step of B alone, A's gradient being zero at B_0 = 0.",
            MatrixIdentity(
                (gamma * (B @ A_0 @ probe)).where("B", -lr * (gamma * (signal @ (A_0 @ x).T))),
                sgd("first_output", S=A_0.T @ A_0),
            ),
        ),
        Step(
            "Its mean under alpha/sqrt(r) is free of r; the limit is the step of full fine-tuning at lr alpha^2 variance.",
            Limit(mean_y.subs(gamma, alpha / sp.sqrt(r)), -(alpha**2) * lr * v * variance * dot, r, "E y at gamma = alpha/sqrt(r)"),
            "mean_limit",
        ),
        Step(
            "The mean in full.",
            Identity(mean_y, -(gamma**2) * r * lr * v * variance * dot, "E y = -gamma^2 lr v E q"),
            "mean",
        ),
        Step(
            "Its mean square is the square of the mean times 1 + spread/r, spread = rest/(variance dot)^2.",
            Identity(
                square_y,
                (gamma**2 * r * lr * v * variance * dot) ** 2 * (1 + rest / (variance * dot) ** 2 / r),
                "E y^2",
            ),
            "square",
        ),
        Step(
            "The spread has the sign of channel-moments' rest: it is not negative; it is zero, and y the same at every"
            " draw, only where |x|^2 |x*|^2 + dot^2 = 2 S22 (as for one input) and A's entries have one size.",
            Inequality(
                sp.Equivalent(
                    channel("rest_sign", dot=dot),
                    sp.And(
                        rest / (variance * dot) ** 2 >= 0,
                        sp.Implies(
                            sp.Eq(rest / (variance * dot) ** 2, 0),
                            sp.And(sp.Eq(x_norm2 * probe_norm2 + dot**2 - 2 * power_sum, 0), sp.Eq((fourth - variance**2) * power_sum, 0)),
                        ),
                    ),
                ),
                (),
                (
                    ("coefficient", rest / (variance * dot) ** 2 >= 1),
                    ("sign", -rest / (variance * dot) ** 2 >= 0),
                ),
            ),
        ),
        Step(
            "If: with low <= gamma sqrt(r) <= high, theta-of-gamma bounds gamma^2 r, and the mean square size^2 (1 + spread/r)"
            " (gamma^2 r)^2, size = |E y|/(gamma^2 r), has bounds free of r.",
            Inequality(
                sp.And(
                    low**4 * size**2 <= (gamma**2 * r * size) ** 2 * (1 + spread / r),
                    (gamma**2 * r * size) ** 2 * (1 + spread / r) <= high**4 * size**2 * (1 + spread),
                ),
                (theta("squared"), r >= 1),
                (
                    ("sign", low**4 * size**2 <= (gamma**2 * r * size) ** 2 * (1 - spread / r)),
                    ("coefficient", (gamma**2 * r * size) ** 2 * (1 + spread / r) <= high**4 * size**2),
                    ("exponent", low * size**2 <= (gamma**2 * r * size) ** 2 * (1 + spread / r)),
                ),
            ),
        ),
        Step(
            "Only if: bounds on the mean alone bound gamma^2 r, and gamma sqrt(r) with it by theta-of-gamma.",
            Inequality(
                theta("rooted", low=low / size, high=high / size),
                (low <= gamma**2 * r * size, gamma**2 * r * size <= high),
                (
                    ("exponent", theta("rooted", low=low / size**2, high=high / size**2)),
                    ("coefficient", theta("rooted", low=2 * low / size, high=high / size)),
                ),
            ),
        ),
        Step(
            "And so do bounds on the mean square, up to the factor 1 + spread.",
            Inequality(
                sp.And(low <= (gamma**2 * r) ** 2 * size**2 * (1 + spread), (gamma**2 * r) ** 2 * size**2 <= high),
                (
                    low <= (gamma**2 * r * size) ** 2 * (1 + spread / r),
                    (gamma**2 * r * size) ** 2 * (1 + spread / r) <= high,
                    r >= 1,
                ),
                (("sign", low <= (gamma**2 * r) ** 2 * size**2 * (1 - spread)), ("coefficient", 2 * (gamma**2 * r) ** 2 * size**2 <= high)),
            ),
        ),
        Step(
            "Moments to order four for normal A and an aligned probe: E q^4 / r^4 lies between 1 and 105, in units of (variance |x|^2)^4.",
            Inequality(
                sp.And(r**4 <= product, product <= 105 * r**4),
                (r >= 1,),
                (
                    ("coefficient", product <= 104 * r**4),
                    ("exponent", product <= 105 * r**3),
                    ("sign", r * (r - 2) * (r + 4) * (r + 6) >= r**4),
                ),
            ),
        ),
        Step(
            "Moments of every order: f_n = t^n - c^n - n c^(n-1) (t - c) is zero at n = 1, and f_(n+1) = t f_n + n c^(n-1) (t - c)^2,"
            " so it is"
            " never negative for t, c > 0. With c the mean of t this is E t^n >= (E t)^n; for t = |q| it gives E |q|^m >= |E q|^m, and for"
            " the average of the |u w| of r channels E |q|^m <= r^m E |u w|^m. Below, t_n = t^n and c_n = c^(n-1).",
            Identity(
                t_n * t - c_n * c**2 - (n + 1) * c_n * c * (t - c),
                t * (t_n - c_n * c - n * c_n * (t - c)) + n * c_n * (t - c) ** 2,
            ),
        ),
        Step(
            "An orthogonal probe has mean zero: under alpha/sqrt(r) its mean square falls as 1/r, so the output collapses as r^(-1/2).",
            Limit(
                r * (gamma**4 * lr**2 * v**2 * across).subs(gamma, alpha / sp.sqrt(r)),
                alpha**4 * lr**2 * v**2 * (variance**2 * x_norm2 * probe_norm2 + (fourth - 3 * variance**2) * power_sum),
                r,
                "r E y^2 at dot = 0, gamma = alpha/sqrt(r)",
            ),
        ),
        Step(
            "For it the stable rule is alpha r^(-1/4).",
            Limit(
                (gamma**4 * lr**2 * v**2 * across).subs(gamma, alpha * r ** sp.Rational(-1, 4)),
                alpha**4 * lr**2 * v**2 * (variance**2 * x_norm2 * probe_norm2 + (fourth - 3 * variance**2) * power_sum),
                r,
                "E y^2 at dot = 0, gamma = alpha r^(-1/4)",
            ),
        ),
    ),
    remarks=(
        "Definition 3.1 asks for inputs that are independent and alike; for two such inputs of mean zero dot is small, and which of the"
        " two rules"
        " is stable turns on it. The theorem's 1/2 is the aligned one.",
        "A published copy of the proof takes the m-th moment of the mean over A_0 for the m-th moment; the terms it drops are the rest"
        " of step 3.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
