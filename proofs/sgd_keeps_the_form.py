"""The induction over steps: under SGD from B = 0, B stays a matrix times A_0', and A stays A_0 times a matrix."""

import sympy as sp

from rsverify.proving import Lemma, MatrixIdentity, Step, eye, matrix, run_alone, symmetric, vector, zeros

lr, gamma, momentum, decay = sp.symbols("lr gamma momentum decay", positive=True)
x, probe, v, late = vector("x", "i"), vector("x*", "i"), vector("v", "o"), vector("v*", "o")
A_0, S = matrix("A_0", "r", "i"), symmetric("S", "i")
Q, M = matrix("Q", "o", "i"), matrix("M", "i", "i")
P, N = matrix("P", "o", "i"), matrix("N", "i", "i")
B, A = Q @ A_0.T, A_0 @ M  # the form after k steps
buffer_B, buffer_A = P @ A_0.T, A_0 @ N  # and that of the momentum

# The gradients of the loss on one sample, from its signal v: dL/dB = gamma v (A x)', dL/dA = gamma B' v x'.
gradient_B, gradient_A = gamma * (v @ (A @ x).T), gamma * (B.T @ v @ x.T)
# The same in the coordinates of A_0, an o x i and an i x i matrix: no rank is left in them.
gradient_Q, gradient_M = gamma * (v @ (M @ x).T), gamma * (Q.T @ v @ x.T)

next_P, next_N = momentum * P + gradient_Q + decay * Q, momentum * N + gradient_M + decay * M
next_buffer_B, next_buffer_A = momentum * buffer_B + gradient_B + decay * B, momentum * buffer_A + gradient_A + decay * A

lemma = Lemma(
    name="sgd-keeps-the-form",
    statement=(
        "Under SGD from B_0 = 0, B_k = Q_k A_0' and A_k = A_0 M_k after every step, with Q <- Q - lr gamma v (M x)' and"
        " M <- M - lr gamma Q' v x'; so gamma B_k A_k = gamma Q_k S M_k with S = A_0' A_0, and the rank enters through S alone."
    ),
    assumptions=(
        "LoRA: h = W x + gamma B A x, B_0 = 0, A_0 any matrix; at each step x is the sample, v the loss gradient at the layer's output",
        "SGD with any lr at each step, heavy-ball momentum, coupled or decoupled weight decay; a batch sums the gradients of its samples",
    ),
    uses=(),
    source=(
        "Kalajdzievski 2023, arXiv 2312.03732: induction over SGD steps (proof not seen; a follow-up's copy of it was, which expands"
        " in gamma where this is exact)"
    ),
    steps=(
        Step("At the start M_0 = I gives A_0, and Q_0 = 0 gives B_0 = 0.", MatrixIdentity(A_0 @ eye("i"), A_0)),
        Step(
            "One step of SGD with weight decay keeps B = Q A_0'.",
            MatrixIdentity(B - lr * (gradient_B + decay * B), (Q - lr * (gradient_Q + decay * Q)) @ A_0.T),
            "next_B",
        ),
        Step(
            "One step of SGD with weight decay keeps A = A_0 M.",
            MatrixIdentity(A - lr * (gradient_A + decay * A), A_0 @ (M - lr * (gradient_M + decay * M))),
            "next_A",
        ),
        Step("Momentum of B keeps the form P A_0'.", MatrixIdentity(next_buffer_B, next_P @ A_0.T), "next_buffer_B"),
        Step("Momentum of A keeps the form A_0 N.", MatrixIdentity(next_buffer_A, A_0 @ next_N), "next_buffer_A"),
        Step(
            "A step along the momentum keeps B = Q A_0'.",
            MatrixIdentity(B - lr * next_buffer_B, (Q - lr * next_P) @ A_0.T),
            "along_buffer_B",
        ),
        Step(
            "A step along the momentum keeps A = A_0 M.", MatrixIdentity(A - lr * next_buffer_A, A_0 @ (M - lr * next_N)), "along_buffer_A"
        ),
        Step(
            "Decoupled decay shrinks Q as it shrinks B; for M and A alike.",
            MatrixIdentity((1 - lr * decay) * B - lr * gradient_B, ((1 - lr * decay) * Q - lr * gradient_Q) @ A_0.T),
        ),
        Step(
            "What the adapter adds on a probe x* is quadratic in A_0: linear in S = A_0'A_0.",
            MatrixIdentity((gamma * (B @ A @ probe)).with_product(A_0.T, A_0, S), gamma * (Q @ S @ M @ probe)),
            "output",
        ),
        Step(
            "So is the gradient that it passes to its input.",
            MatrixIdentity((gamma * (A.T @ B.T @ v)).with_product(A_0.T, A_0, S), gamma * (M.T @ S @ Q.T @ v)),
            "input_gradient",
        ),
        Step(
            "After the first step, from Q_1 = -lr gamma v x' and M_1 = I, the output on a probe is -gamma^2 lr v (x' S x*).",
            MatrixIdentity(
                (gamma * (Q @ S @ M @ probe)).where("Q", zeros("o", "i") - lr * gradient_Q).where("M", eye("i")),
                -(gamma**2) * lr * (v @ x.T @ S @ probe),
            ),
            "first_output",
        ),
        Step(
            "And the gradient that it passes to its input, for a signal v* there, is -gamma^2 lr S x v'v*.",
            MatrixIdentity(
                (gamma * (M.T @ S @ Q.T @ late)).where("Q", zeros("o", "i") - lr * gradient_Q).where("M", eye("i")),
                -(gamma**2) * lr * (S @ x @ v.T @ late),
            ),
            "first_input_gradient",
        ),
    ),
    remarks=(
        "Q and M are free of A_0 only where the signals v are: in training v depends on the output, hence on A_0. The form still holds"
        " on every path, which is what the rank-free layer uses; expectations over A_0 need v given, or r large.",
        "The step of Q and M is the step of B and A in the coordinates of A_0, not the gradient of the loss by Q and M, which has S in it.",
        "It fails for B_0 not zero, and for Adam, sign and other entrywise steps, which do not commute with a change of coordinates."
        " Clipping by the gradient norm keeps the form, with an lr that depends on A_0.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
