"""Merging: after training the adapter is added to the weight once, and inference costs what it cost before."""

import sympy as sp

from rsverify.proving import Lemma, MatrixIdentity, Step, matrix, run_alone, vector

gamma, gamma2 = sp.symbols("gamma gamma2", positive=True)
W, x = matrix("W", "o", "i"), vector("x", "i")
B, A = matrix("B", "o", "r"), matrix("A", "r", "i")
B2, A2 = matrix("B2", "o", "s"), matrix("A2", "s", "i")

lemma = Lemma(
    name="merging",
    statement="(W + gamma B A) x = W x + gamma B (A x) for every input, every rank and every rule: the merged layer has the size of W.",
    assumptions=("exact arithmetic; in floating point the two sides differ by rounding", "no dropout and nothing between A and B"),
    uses=(),
    source="Hu et al. 2021, arXiv 2106.09685 (notes with quotes opened, the paper itself not seen)",
    steps=(
        Step("Merged and unmerged outputs agree.", MatrixIdentity((W + gamma * (B @ A)) @ x, W @ x + gamma * (B @ (A @ x)))),
        Step("Unmerging gives the weight back.", MatrixIdentity((W + gamma * (B @ A)) - gamma * (B @ A), W)),
        Step(
            "Two adapters of different ranks merge one after the other, in either order.",
            MatrixIdentity(((W + gamma * (B @ A)) + gamma2 * (B2 @ A2)) @ x, W @ x + gamma2 * (B2 @ (A2 @ x)) + gamma * (B @ (A @ x))),
        ),
    ),
    remarks=(
        "The sum of the factors of two adapters is not the sum of the adapters: (B + B2)(A + A2) has cross terms.",
        "Merging with the scale of another rule (alpha/r for an adapter trained with alpha/sqrt(r)) is the commonest way to break this.",
    ),
)

if __name__ == "__main__":
    run_alone(lemma)
