"""Any number of SGD steps with given signals: the mean over A_0 exactly, and what is left of it as gamma goes to zero."""

import sympy as sp

from rsverify.proving import (
    Identity,
    Inequality,
    Lemma,
    Limit,
    MatrixIdentity,
    Step,
    eye,
    matrix,
    run_alone,
    taken,
    vector,
    zeros,
)

r, gamma, lr, momentum, variance, g2, low, high, size, constant, v_norm2 = sp.symbols(
    "r gamma lr momentum variance g2 low high size constant v_norm2", positive=True
)
fourth, q_norm2, z_norm2 = sp.symbols("fourth q_norm2 z_norm2", positive=True)
power_sum = sp.Symbol("S22", nonnegative=True)
first, dot = sp.symbols("error dot", real=True)
x, probe, v, late = vector("x", "i"), vector("x*", "i"), vector("v", "o"), vector("v*", "o")
A_0, G, R, T = matrix("A_0", "r", "i"), matrix("G", "o", "i"), matrix("R", "o", "i"), matrix("T", "i", "i")
F, U, V = matrix("F", "o", "i"), matrix("U", "o", "i"), matrix("V", "i", "i")
I = eye("i")

sgd, channel, gram, theta = map(taken, ("sgd-keeps-the-form", "channel-moments", "gram-moments", "theta-of-gamma"))
mean_S = gram("mean_S", dot=1)  # E S over the identity

# Heavy-ball buffers P of Q and N of M; momentum = 0 is plain SGD. F is the buffer of full fine-tuning, G the sum of its buffers.
Q, M = -(lr * gamma) * G + gamma**3 * R, I + gamma**2 * T
P, N = gamma * F + gamma**3 * U, gamma**2 * V
F_next, U_next = momentum * F + v @ x.T, momentum * U + v @ x.T @ T.T
V_next = momentum * V - lr * (G.T @ v @ x.T) + gamma**2 * (R.T @ v @ x.T)

# What sgd-keeps-the-form is asked for: this form, and (for the step along a buffer) the buffer as it stands, with no gradient to come.
form_B, form_A = {"Q": Q, "M": M, "P": P}, {"Q": Q, "M": M, "N": N}
none = {"v": zeros("o", "1")}

# E ((gamma q)'S z)^2 for a row gamma q of Q: the formula of channel-moments with its x norm, dot and S22 scaled by powers of gamma.
square_q = channel("square_q", x_norm2=gamma**2 * q_norm2, probe_norm2=z_norm2, dot=gamma * dot, S22=gamma**2 * power_sum)

lemma = Lemma(
    name="k-steps",
    statement=(
        "After k SGD steps with given signals, E (gamma B_k A_k x*) = gamma r variance Q_k M_k x* exactly, which is"
        " -gamma^2 r variance lr G x* + O(gamma^2) gamma^2 r with G the sum of v_j x_j' (of its momentum buffers, where there is"
        " momentum); it is of order one exactly when gamma^2 r is."
    ),
    assumptions=(
        "signals v_j and samples x_j of the k steps are given: free of A_0 and of r; G x* and G'v* are not zero; k and lr are fixed",
        "E S = r variance I for S = A_0'A_0 (gram-moments)",
        "gamma tends to zero as r grows (the source assumes it too); R and T are sums of products of v, x, lr and gamma^2, bounded for"
        " gamma <= 1",
    ),
    uses=("sgd-keeps-the-form", "channel-moments", "gram-moments", "theta-of-gamma"),
    source=("Kalajdzievski 2023, arXiv 2312.03732, proof of Theorem 3.2 (not seen; a follow-up's copy of equations (4)-(9) was)"),
    steps=(
        Step(
            "Powers of gamma: the buffer of Q is gamma F + gamma^3 U, from F = U = 0 on; one more gradient gamma v (M x)' keeps it.",
            MatrixIdentity(sgd("next_buffer_B", form_B, decay=0), (gamma * F_next + gamma**3 * U_next) @ A_0.T),
        ),
        Step(
            "The buffer of M is gamma^2 V, from V = 0 on.",
            MatrixIdentity(sgd("next_buffer_A", form_A, decay=0), A_0 @ (gamma**2 * V_next)),
        ),
        Step(
            "A step along the buffer keeps Q = -lr gamma G + gamma^3 R, with G <- G + F.",
            MatrixIdentity(
                sgd("along_buffer_B", form_B | none, momentum=1, decay=0), (-(lr * gamma) * (G + F) + gamma**3 * (R - lr * U)) @ A_0.T
            ),
        ),
        Step(
            "And M = I + gamma^2 T.",
            MatrixIdentity(sgd("along_buffer_A", form_A | none, momentum=1, decay=0), A_0 @ (I + gamma**2 * (T - lr * V))),
        ),
        Step(
            "The output gamma Q S M x* is linear in S, so its mean has r variance I for S; written by powers of gamma.",
            MatrixIdentity(
                sgd("output", {"Q": Q, "M": M, "S": mean_S * I}),
                (gamma**2 * r * variance)
                * (-lr * (G @ probe) + gamma**2 * (R @ probe - lr * (G @ T @ probe)) + gamma**4 * (R @ T @ probe)),
            ),
        ),
        Step(
            "So is the gradient to the input, gamma M'S Q'v*, for any signal v* at the output.",
            MatrixIdentity(
                sgd("input_gradient", {"Q": Q, "M": M, "S": mean_S * I, "v": late}),
                (gamma**2 * r * variance)
                * (-lr * (G.T @ late) + gamma**2 * (R.T @ late - lr * (T.T @ G.T @ late)) + gamma**4 * (T.T @ R.T @ late)),
            ),
        ),
        Step(
            "The mean square of an output entry is channel-moments with gamma q, a row of Q, for x and z = M x* for x*: over (gamma^2 r)^2"
            " it is the square of the mean and a rest smaller by r.",
            Identity(
                gamma**2 * square_q / (gamma**2 * r) ** 2,
                variance**2 * dot**2 + (variance**2 * (q_norm2 * z_norm2 + dot**2) + (fourth - 3 * variance**2) * power_sum) / r,
                "gamma^2 E ((gamma q)'S z)^2 / (gamma^2 r)^2",
            ),
            "square",
        ),
        Step(
            "With gamma^2 r = g2 the first correction, g2 gamma^2 = g2^2/r times a bounded vector, vanishes as 1/r.",
            Limit((g2 * gamma**2).subs(gamma, sp.sqrt(g2 / r)) * constant, sp.Integer(0), r, "g2 gamma^2 constant at gamma = sqrt(g2/r)"),
        ),
        Step(
            "Once the correction is at most half of the leading term, an entry gamma^2 r (size + error) is between 1/2 and 3/2 of"
            " gamma^2 r size.",
            Inequality(
                sp.And(g2 * size / 2 <= sp.Abs(g2 * (size + first)), sp.Abs(g2 * (size + first)) <= 3 * g2 * size / 2),
                (sp.Abs(first) <= size / 2,),
                (
                    ("coefficient", g2 * size / 2 * sp.Rational(3, 2) <= sp.Abs(g2 * (size + first))),
                    ("sign", sp.Abs(g2 * (size + first)) <= g2 * size / 2 - g2 * first),
                ),
            ),
            "bounds",
        ),
        Step(
            "If and only if: so bounds on that entry are bounds on gamma^2 r, up to the factors 1/2 and 3/2 ...",
            Inequality(
                sp.And(2 * low / (3 * size) <= g2, g2 <= 2 * high / size),
                (sp.Abs(first) <= size / 2, low <= g2 * (size + first), g2 * (size + first) <= high),
                (("coefficient", low / size <= g2), ("exponent", 2 * low / (3 * size**2) <= g2)),
            ),
        ),
        Step(
            "... which are bounds on gamma sqrt(r) by theta-of-gamma.",
            Inequality(
                theta("rooted", low=2 * low / (3 * size), high=2 * high / size),
                (2 * low / (3 * size) <= gamma**2 * r, gamma**2 * r <= 2 * high / size),
                (
                    ("coefficient", theta("rooted", low=low / size, high=2 * high / size)),
                    ("exponent", theta("rooted", low=(2 * low / (3 * size)) ** 2, high=(2 * high / size) ** 2)),
                ),
            ),
        ),
        Step(
            "To leading order an entry of the mean output is -gamma^2 r variance lr times one of G x*; of the gradient to the"
            " input, times one of G'v*.",
            Identity(mean_S * gamma * (-lr * gamma) * size, -(gamma**2) * r * variance * lr * size, "gamma E S (-lr gamma G x*)"),
            "leading",
        ),
        Step(
            "Two steps of plain SGD on the same sample and signal: G = v x', R = V = 0 after the first, then T = lr^2 |v|^2 x x'.",
            MatrixIdentity(
                (-lr * V_next).where("G", v @ x.T).where("R", zeros("o", "i")).where("V", zeros("i", "i")).with_scalar(v.T, v, v_norm2),
                (lr**2 * v_norm2) * (x @ x.T),
            ),
        ),
    ),
    remarks=(
        "In training the signals depend on A_0 through the output; to leading order in 1/sqrt(r) they do not: full-finetuning-limit.",
        "At a learning rate that grows with r the corrections do not vanish, and the mean is not linear in lr.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
