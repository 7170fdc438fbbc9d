"""The theorem's first condition, after one step of SGD: what the adapter adds is of order one exactly when gamma^2 r is."""

import sympy as sp

from rsverify.proving import Identity, Inequality, Lemma, Limit, MatrixIdentity, Step, matrix, run_alone, vector

r, gamma, alpha, lr, variance, fourth, x_norm2, probe_norm2, power_sum, v = sp.symbols(
    "r gamma alpha lr variance fourth x_norm2 probe_norm2 S22 v", positive=True
)
dot, spread, size, low, high, n, t, c, t_n, c_n = sp.symbols("dot spread size low high n t c t_n c_n", positive=True)
A_0, B, x, probe, signal = matrix("A_0", "r", "i"), matrix("B", "o", "r"), vector("x", "i"), vector("x*", "i"), vector("v", "o")

mean_q = r * variance * dot
square_q = r**2 * variance**2 * dot**2 + r * (variance**2 * (x_norm2 * probe_norm2 + dot**2) + (fourth - 3 * variance**2) * power_sum)
mean_y = -(gamma**2) * lr * v * mean_q
square_y = (gamma**2 * lr * v) ** 2 * square_q
across = square_q.subs(dot, 0)  # the probe orthogonal to the sample
product = r * (r + 2) * (r + 4) * (r + 6)

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
                -(gamma**2) * lr * (signal @ x.T @ A_0.T @ A_0 @ probe),
            ),
        ),
        Step(
            "Its mean under alpha/sqrt(r) is free of r; the limit is the step of full fine-tuning at lr alpha^2 variance.",
            Limit(mean_y.subs(gamma, alpha / sp.sqrt(r)), -(alpha**2) * lr * v * variance * dot, r, "E y at gamma = alpha/sqrt(r)"),
        ),
        Step(
            "Its mean square is the square of the mean and a rest that is smaller by r.",
            Identity(
                square_y / (gamma**2 * r) ** 2,
                lr**2
                * v**2
                * (variance**2 * dot**2 + (variance**2 * (x_norm2 * probe_norm2 + dot**2) + (fourth - 3 * variance**2) * power_sum) / r),
                "E y^2 / (gamma^2 r)^2",
            ),
        ),
        Step(
            "If: with low <= gamma^2 r <= high, the mean square size^2 (1 + spread/r) (gamma^2 r)^2 has bounds free of r, size = |E"
            " y|/(gamma^2 r).",
            Inequality(
                sp.And(
                    low**2 * size**2 <= (gamma**2 * r * size) ** 2 * (1 + spread / r),
                    (gamma**2 * r * size) ** 2 * (1 + spread / r) <= high**2 * size**2 * (1 + spread),
                ),
                (low <= gamma**2 * r, gamma**2 * r <= high, r >= 1),
                (
                    ("sign", low**2 * size**2 <= (gamma**2 * r * size) ** 2 * (1 - spread / r)),
                    ("coefficient", (gamma**2 * r * size) ** 2 * (1 + spread / r) <= high**2 * size**2),
                    ("exponent", low * size**2 <= (gamma**2 * r * size) ** 2 * (1 + spread / r)),
                ),
            ),
        ),
        Step(
            "Only if: bounds on the mean alone bound gamma^2 r, and theta-of-gamma does the rest.",
            Inequality(
                sp.And(low / size <= gamma**2 * r, gamma**2 * r <= high / size),
                (low <= gamma**2 * r * size, gamma**2 * r * size <= high),
                (("exponent", low / size**2 <= gamma**2 * r), ("coefficient", 2 * low / size <= gamma**2 * r)),
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
