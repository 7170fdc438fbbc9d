"""What proofs are written with: lemmas whose every step is decided by a checker, for a stated range of ranks."""

from rsverify.proving.balls import BallBound
from rsverify.proving.checks import Check, Cited, Finding, ProofError, Twin
from rsverify.proving.expectation import mean
from rsverify.proving.identities import Identity, Induction, Limit
from rsverify.proving.inequalities import Inequality
from rsverify.proving.lemma import Lemma, LemmaResult, Step, prove
from rsverify.proving.library import run_alone, taken
from rsverify.proving.matrices import Matrix, MatrixIdentity, eye, matrix, symmetric, vector, zeros
from rsverify.proving.taken import Taken

__all__ = [
    "BallBound", "Check", "Cited", "Finding", "Identity", "Induction", "Inequality", "Lemma", "LemmaResult", "Limit", "Matrix",
    "MatrixIdentity", "ProofError", "Step", "Taken", "Twin", "eye", "matrix", "mean", "prove", "run_alone", "symmetric", "taken",
    "vector", "zeros",
]  # fmt: skip
