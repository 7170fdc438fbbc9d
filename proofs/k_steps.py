"""Any number of SGD steps with given signals: the mean over A_0 exactly, and what is left of it as gamma goes to zero."""

import sympy as sp

from rsverify.proving import Identity, Inequality, Lemma, Limit, MatrixIdentity, Step, eye, matrix, run_alone, symmetric, vector, zeros

r, gamma, lr, momentum, variance, g2, low, high, size, constant, v_norm2 = sp.symbols(
    "r gamma lr momentum variance g2 low high size constant v_norm2", positive=True
)
fourth, q_norm2, z_norm2, power_sum = sp.symbols("fourth q_norm2 z_norm2 S22", positive=True)
first, dot = sp.symbols("error dot", real=True)
x, probe, v, late = vector("x", "i"), vector("x*", "i"), vector("v", "o"), vector("v*", "o")
G, R, T, S = matrix("G", "o", "i"), matrix("R", "o", "i"), matrix("T", "i", "i"), symmetric("S", "i")
F, U, V = matrix("F", "o", "i"), matrix("U", "o", "i"), matrix("V", "i", "i")
I = eye("i")

# Heavy-ball buffers P of Q and N of M; momentum = 0 is plain SGD. F is the buffer of full fine-tuning, G the sum of its buffers.
Q, M = -(lr * gamma) * G + gamma**3 * R, I + gamma**2 * T
P, N = gamma * F + gamma**3 * U, gamma**2 * V
F_next, U_next = momentum * F + v @ x.T, momentum * U + v @ x.T @ T.T
V_next = momentum * V - lr * (G.T @ v @ x.T) + gamma**2 * (R.T @ v @ x.T)

# E ((gamma q)'S z)^2 for a row gamma q of Q: the formula of channel-moments with its x norm, dot and S22 scaled by powers of gamma.
square_q = r**2 * variance**2 * (gamma * dot) ** 2 + r * (
    variance**2 * (gamma**2 * q_norm2 * z_norm2 + (gamma * dot) ** 2) + (fourth - 3 * variance**2) * gamma**2 * power_sum
)

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
            MatrixIdentity(momentum * P + gamma * (v @ (M @ x).T), gamma * F_next + gamma**3 * U_next),
        ),
        Step(
            "The buffer of M is gamma^2 V, from V = 0 on.",
            MatrixIdentity(momentum * N + gamma * (Q.T @ v @ x.T), gamma**2 * V_next),
        ),
        Step(
            "A step along the buffer keeps Q = -lr gamma G + gamma^3 R, with G <- G + F.",
            MatrixIdentity(Q - lr * P, -(lr * gamma) * (G + F) + gamma**3 * (R - lr * U)),
        ),
        Step(
            "And M = I + gamma^2 T.",
            MatrixIdentity(M - lr * N, I + gamma**2 * (T - lr * V)),
        ),
        Step(
            "The output gamma Q S M x* is linear in S, so its mean has r variance I for S; written by powers of gamma.",
            MatrixIdentity(
                (gamma * (Q @ S @ M @ probe)).where("S", (r * variance) * I),
                (gamma**2 * r * variance)
                * (-lr * (G @ probe) + gamma**2 * (R @ probe - lr * (G @ T @ probe)) + gamma**4 * (R @ T @ probe)),
            ),
        ),
        Step(
            "So is the gradient to the input, gamma M'S Q'v*, for any signal v* at the output.",
            MatrixIdentity(
                (gamma * (M.T @ S @ Q.T @ late)).where("S", (r * variance) * I),
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
        ),
        Step(
            "If and only if: so bounds on that entry are bounds on gamma^2 r, up to the factors 1/2 and 3/2.",
            Inequality(
                sp.And(2 * low / (3 * size) <= g2, g2 <= 2 * high / size),
                (sp.Abs(first) <= size / 2, low <= g2 * (size + first), g2 * (size + first) <= high),
                (("coefficient", low / size <= g2), ("exponent", 2 * low / (3 * size**2) <= g2)),
            ),
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
