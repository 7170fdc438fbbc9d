"""The gradient norm at init: gamma sqrt(r), whatever optimizer comes after."""

import sympy as sp

from rsverify.proving import Induction, Inequality, Lemma, Limit, MatrixIdentity, Step, matrix, run_alone, vector, zeros

r, gamma, alpha, variance, x_norm2, v_norm2, low, high = sp.symbols("r gamma alpha variance x_norm2 v_norm2 low high", positive=True)
A_0, B = matrix("A_0", "r", "i"), matrix("B", "o", "r")
x, v = vector("x", "i"), vector("v", "o")
gradient_B, gradient_A = gamma * (v @ (A_0 @ x).T), gamma * (B.T @ v @ x.T)
mean_square = gamma**2 * v_norm2 * r * variance * x_norm2
scaled = gamma * sp.sqrt(r)
ZERO = sp.Integer(0)

lemma = Lemma(
    name="gradient-norm-at-init",
    statement=(
        "At init E |dL/dB|^2 = gamma^2 |v|^2 r variance |x|^2 and dL/dA = 0: the norm goes as gamma sqrt(r),"
        " and is of order one exactly when gamma is Theta(1/sqrt r)."
    ),
    assumptions=(
        "B_0 = 0; the entries of A_0 are independent with mean zero and variance `variance`, which is free of r",
        "one sample x with signal v, both free of r",
    ),
    uses=(),
    source="Kalajdzievski 2023, arXiv 2312.03732, plots this quantity (Figure 3 by notes on the paper; the paper itself not seen)",
    steps=(
        Step(
            "The gradient of A is gamma B' v x', nothing at B = 0: only B's gradient moves the product B A, by gamma v (A_0 x)' A_0.",
            MatrixIdentity(
                (gradient_B @ A_0 + B @ gradient_A).where("B", zeros("o", "r")),
                gamma * (v @ x.T @ A_0.T @ A_0),
            ),
        ),
        Step(
            "The squared norm of gamma v (A_0 x)' is the trace of its product with its transpose, gamma^2 |A_0 x|^2 v v'.",
            MatrixIdentity(gradient_B @ gradient_B.T, gamma**2 * (v @ x.T @ A_0.T @ A_0 @ x @ v.T)),
        ),
        Step(
            "E |A_0 x|^2 grows by variance |x|^2 with every row.",
            Induction(r * variance * x_norm2, {r: ZERO}, {r: r + 1}, ZERO, lambda before: before + variance * x_norm2, "E_q"),
        ),
        Step(
            "With gamma = alpha/sqrt(r) the mean square is free of r: it tends to what it is.",
            Limit(mean_square.subs(gamma, alpha / sp.sqrt(r)), alpha**2 * v_norm2 * variance * x_norm2, r),
        ),
        Step(
            "With gamma = alpha/r the mean square, times r, tends to a constant: the norm collapses as r^(-1/2).",
            Limit(r * mean_square.subs(gamma, alpha / r), alpha**2 * v_norm2 * variance * x_norm2, r),
        ),
        Step(
            "If: low <= gamma sqrt(r) <= high bounds gamma^2 r on both sides.",
            Inequality(
                sp.And(low**2 <= gamma**2 * r, gamma**2 * r <= high**2),
                (low <= scaled, scaled <= high),
                (("exponent", low <= gamma**2 * r), ("coefficient", 2 * low**2 <= gamma**2 * r)),
            ),
        ),
        Step(
            "Only if: low <= gamma^2 r <= high bounds gamma sqrt(r) by the roots of low and high.",
            Inequality(
                sp.And(sp.sqrt(low) <= scaled, scaled <= sp.sqrt(high)),
                (low <= gamma**2 * r, gamma**2 * r <= high),
                (("exponent", low <= scaled), ("coefficient", 2 * sp.sqrt(low) <= scaled)),
            ),
        ),
    ),
    remarks=(
        "No optimizer enters: the same power is seen under SGD and Adam, though their updates have different ones. A gradient norm that"
        " is stable in rank is no proof that the update is.",
        "After some steps dL/dA is no longer zero, and the norm has a second term.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
