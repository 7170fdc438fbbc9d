"""Sums of products of named matrices, of any sizes: identities that hold for all matrices hold for all ranks.

A matrix here is a sum of coefficient times word; a word is a product of letters, each a named matrix or its transpose, and sizes are
named axes, so that B (o, r) times A (r, i) types and A times B does not. Two sums are equal for all matrices of all sizes when they
have the same words with the same coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import sympy as sp

from rsverify.proving import normalform
from rsverify.proving.checks import Check, Corruption, Finding, ProofError, Twin
from rsverify.proving.corruption import corrupted


@dataclass(frozen=True)
class Letter:
    """A named matrix, perhaps transposed; its rows and columns as they stand in a word."""

    name: str
    rows: str
    columns: str
    transposed: bool = False
    symmetric: bool = False

    @property
    def T(self) -> Letter:
        return self if self.symmetric else Letter(self.name, self.columns, self.rows, not self.transposed)

    def __str__(self) -> str:
        return f"{self.name}'" if self.transposed else self.name


Word = tuple[Letter, ...]


@dataclass(frozen=True)
class Matrix:
    """A sum of coefficient times word, all of the same size. Written with +, -, @, .T and scalars in front.

    `said` is the sum as it was written, before any product was carried out.
    """

    rows: str
    columns: str
    terms: Mapping[Word, sp.Expr]
    said: str = field(default="", compare=False)

    @property
    def T(self) -> Matrix:
        terms = {tuple(letter.T for letter in reversed(word)): c for word, c in self.terms.items()}
        return Matrix(self.columns, self.rows, terms, f"{_grouped(self.said, ' ')}'")

    def __add__(self, other: Matrix) -> Matrix:
        return self._plus(other, f"{self.said} + {other.said}")

    def __sub__(self, other: Matrix) -> Matrix:
        return self._plus(-other, f"{self.said} - {_grouped(other.said, ' + ', ' - ')}")

    def __neg__(self) -> Matrix:
        terms = {word: -coefficient for word, coefficient in self.terms.items()}
        return Matrix(self.rows, self.columns, terms, f"-{_grouped(self.said, ' + ', ' - ')}")

    def __rmul__(self, scalar: sp.Expr | int) -> Matrix:
        terms = {word: scalar * c for word, c in self.terms.items() if scalar != 0}
        return Matrix(self.rows, self.columns, terms, f"{_grouped(str(scalar), ' + ', ' - ')} {_grouped(self.said, ' + ', ' - ')}")

    def __matmul__(self, other: Matrix) -> Matrix:
        if self.columns != other.rows:
            raise ProofError(f"({self}) has columns {self.columns!r} and ({other}) has rows {other.rows!r}: they cannot be multiplied")
        terms: dict[Word, sp.Expr] = {}
        for left, a in self.terms.items():
            for right, b in other.terms.items():
                terms[left + right] = terms.get(left + right, sp.Integer(0)) + a * b
        said = f"{_grouped(self.said, ' + ', ' - ')} {_grouped(other.said, ' + ', ' - ')}"
        return Matrix(self.rows, other.columns, terms, said)

    def where(self, name: str, value: Matrix) -> Matrix:
        """The same sum with a letter replaced by a sum, transposes included."""
        total = zeros(self.rows, self.columns)
        for word, coefficient in self.terms.items():
            product = eye(self.rows)
            for letter in word:
                replaced = (value.T if letter.transposed else value) if letter.name == name else _of(letter)
                product = product @ replaced
            total += product.__rmul__(coefficient)
        return Matrix(self.rows, self.columns, total.terms, f"[{self.said} where {name} = {value.said}]")

    def put(self, letters: Mapping[str, Matrix], scalars: Mapping[sp.Symbol, sp.Expr]) -> Matrix:
        """The same sum with letters replaced by sums and scalars by formulas, all at once."""
        total = zeros(self.rows, self.columns)
        for word, coefficient in self.terms.items():
            product = eye(self.rows)
            for letter in word:
                value = letters.get(letter.name)
                product = product @ (_of(letter) if value is None else value.T if letter.transposed else value)
            factor: Any = coefficient.xreplace(dict(scalars))
            total += product.__rmul__(factor)
        return Matrix(self.rows, self.columns, {word: c for word, c in total.terms.items() if c != 0})

    def with_scalar(self, left: Matrix, right: Matrix, value: sp.Expr) -> Matrix:
        """The same sum with the number left @ right (a row times a column) written as a scalar, e.g. x' x as |x|^2."""
        if (left.rows, right.columns) != ("1", "1"):
            raise ProofError(f"({left}) ({right}) is no number: it has size {left.rows} by {right.columns}")
        return self._with(left, right, (), value, str(value))

    def with_product(self, left: Matrix, right: Matrix, named: Matrix) -> Matrix:
        """The same sum with the product left @ right of two letters written as one letter, e.g. A'A as S."""
        if (left.rows, right.columns) != (named.rows, named.columns):
            raise ProofError(f"({left}) ({right}) has size {left.rows} by {right.columns}, {named} has {named.rows} by {named.columns}")
        ((word, _),) = named.terms.items()
        return self._with(left, right, word, sp.Integer(1), str(named))

    def with_multiple(self, left: Matrix, right: Matrix, value: sp.Expr) -> Matrix:
        """The same sum with the product left @ right of two letters written as a number times the identity, e.g. C C' = c I."""
        if left.rows != right.columns:
            raise ProofError(f"({left}) ({right}) is no multiple of the identity: it has size {left.rows} by {right.columns}")
        return self._with(left, right, (), value, f"{value} I")

    def _with(self, left: Matrix, right: Matrix, letters: Word, factor: sp.Expr, name: str) -> Matrix:
        (a, _), (b, _) = *left.terms.items(), *right.terms.items()
        pattern = a + b
        terms: dict[Word, sp.Expr] = {}
        for word, coefficient in self.terms.items():
            k = 0
            while k + len(pattern) <= len(word):
                if word[k : k + len(pattern)] == pattern:
                    word, coefficient, k = word[:k] + letters + word[k + len(pattern) :], coefficient * factor, k + len(letters)
                else:
                    k += 1
            terms[word] = terms.get(word, sp.Integer(0)) + coefficient
        return Matrix(self.rows, self.columns, terms, f"[{self.said} with {left.said} {right.said} = {name}]")

    def _plus(self, other: Matrix, said: str) -> Matrix:
        if (self.rows, self.columns) != (other.rows, other.columns):
            raise ProofError(
                f"({self}) of size {self.rows} by {self.columns} is added to ({other}) of size {other.rows} by {other.columns}"
            )
        terms = dict(self.terms)
        for word, coefficient in other.terms.items():
            terms[word] = terms.get(word, sp.Integer(0)) + coefficient
        return Matrix(self.rows, self.columns, {word: c for word, c in terms.items() if c != 0}, said)

    def __str__(self) -> str:
        return self.said or spelled(self.terms)


def spelled(terms: Mapping[Word, sp.Expr]) -> str:
    """A sum with its products carried out."""
    parts = []
    for word, coefficient in terms.items():
        letters = " ".join(map(str, word)) or "I"
        number = "" if coefficient == 1 else "-" if coefficient == -1 else f"{_grouped(str(coefficient), ' + ', ' - ')} "
        parts.append(number + letters)
    return " + ".join(parts).replace("+ -", "- ") or "0"


def _grouped(said: str, *marks: str) -> str:
    """In parentheses where one of the marks stands outside of any."""
    depth, outside = 0, ""
    for character in said:
        depth += (character in "([") - (character in ")]")
        outside += character if depth == 0 else "."
    return f"({said})" if any(mark in outside for mark in marks) else said


def matrix(name: str, rows: str, columns: str) -> Matrix:
    """A matrix of which nothing is known but its sizes."""
    return _of(Letter(name, rows, columns))


def symmetric(name: str, size: str) -> Matrix:
    """A matrix that equals its transpose."""
    return _of(Letter(name, size, size, symmetric=True))


def vector(name: str, size: str) -> Matrix:
    """A column."""
    return _of(Letter(name, size, "1"))


def eye(size: str) -> Matrix:
    """The identity matrix."""
    return Matrix(size, size, {(): sp.Integer(1)}, "I")


def zeros(rows: str, columns: str) -> Matrix:
    """The zero matrix."""
    return Matrix(rows, columns, {}, "0")


def _of(letter: Letter) -> Matrix:
    return Matrix(letter.rows, letter.columns, {(letter,): sp.Integer(1)}, str(letter))


@dataclass(frozen=True)
class MatrixIdentity(Check):
    """Two sums of products of matrices are equal, for all matrices of all sizes: every coefficient of every word agrees."""

    left: Matrix
    right: Matrix

    def __post_init__(self) -> None:
        _ = self.left - self.right  # sizes that do not fit are refused here

    @property
    def claimed(self) -> Matrix:
        return self.right

    def claiming(self, claim: Any) -> MatrixIdentity:
        return MatrixIdentity(self.left, claim)

    @property
    def checker(self) -> str:
        return "normal form of matrix words"

    @property
    def scope(self) -> str:
        return "all r"

    def text(self) -> str:
        return f"{self.left} = {self.right}"

    def run(self) -> Finding:
        rings = ""
        if gap := normalform.undefined(*self.left.terms.values(), *self.right.terms.values()):
            return Finding("refuted", gap)
        for word in {**self.left.terms, **self.right.terms}:
            same, rings = normalform.equal(self.left.terms.get(word, sp.Integer(0)), self.right.terms.get(word, sp.Integer(0)))
            if not same:
                return Finding("refuted", self._counterexample(), f"the word {' '.join(map(str, word)) or 'I'}")
        return Finding("proved", detail=rings)

    def twins(self) -> tuple[Twin, ...]:
        return tuple(Twin(kind, MatrixIdentity(self.left, twin)) for kind, twin in _corrupted(self.right, self.left))

    def _counterexample(self) -> str:
        """Small whole matrices at which the two sides differ."""
        sizes = _sizes(self.left, self.right)
        letters = {letter.name: letter for word in (*self.left.terms, *self.right.terms) for letter in word}
        symbols = normalform.symbols_of(*self.left.terms.values(), *self.right.terms.values())
        for shift, values in enumerate(normalform.assignments(symbols)):
            made = {name: _entries(letter, sizes, shift) for name, letter in letters.items()}
            left, right = (_numbers(side, made, sizes, values) for side in (self.left, self.right))
            if left != right:
                i, j = next((i, j) for i, row in enumerate(left) for j, entry in enumerate(row) if entry != right[i][j])
                given = "; ".join(f"{name} = {_told(entries)}" for name, entries in made.items())
                return f"{given}; {normalform.told(values)}: entry ({i}, {j}) is {left[i][j]}, not {right[i][j]}"
        return ""


def _corrupted(claim: Matrix, other: Matrix) -> Iterator[tuple[Corruption, Matrix]]:
    """The claim with the coefficient of its first and of its last word corrupted."""
    symbols = normalform.symbols_of(*claim.terms.values(), *other.terms.values())
    seen = set()
    for word in [*claim.terms][:1] + [*claim.terms][-1:]:
        if word in seen:
            continue
        seen.add(word)
        coefficient = claim.terms[word]
        twins = corrupted(coefficient)
        if not any(kind == "exponent" for kind, _ in twins) and symbols:
            twins.append(("exponent", coefficient * symbols[0]))
        if len(claim.terms) > 1 or word:
            twins = twins[:6]
        for kind, twin in twins:
            yield kind, Matrix(claim.rows, claim.columns, {**claim.terms, word: twin})
    for word in claim.terms:
        if word and not claim.columns == "1" == claim.rows and not symbols:
            # No scalar enters: the exponent to corrupt is that of a letter with its transpose.
            letter = word[0]
            longer = (letter, letter.T, *word)
            yield "exponent", Matrix(claim.rows, claim.columns, {longer if w == word else w: c for w, c in claim.terms.items()})
            break


def _sizes(*sides: Matrix) -> dict[str, int]:
    letters = [letter for side in sides for word in side.terms for letter in word]
    axes = {axis for holder in (*sides, *letters) for axis in (holder.rows, holder.columns)} - {"1"}
    return {"1": 1, **{axis: 2 + k % 2 for k, axis in enumerate(sorted(axes))}}


def _entries(letter: Letter, sizes: Mapping[str, int], shift: int) -> list[list[Fraction]]:
    rows, columns = (letter.columns, letter.rows) if letter.transposed else (letter.rows, letter.columns)
    seed = sum(map(ord, letter.name)) + shift
    made = [[Fraction((seed * (3 * i + 5 * j + 1) + i * j) % 7 - 3) for j in range(sizes[columns])] for i in range(sizes[rows])]
    return [[made[min(i, j)][max(i, j)] for j in range(len(made))] for i in range(len(made))] if letter.symmetric else made


def _numbers(side: Matrix, made: Mapping[str, list], sizes: Mapping[str, int], values: Mapping[sp.Symbol, Fraction]) -> list[list]:
    total = [[Fraction(0)] * sizes[side.columns] for _ in range(sizes[side.rows])]
    for word, coefficient in side.terms.items():
        product = [[Fraction(i == j) for j in range(sizes[side.rows])] for i in range(sizes[side.rows])]
        for letter in word:
            entries = made[letter.name]
            entries = [list(column) for column in zip(*entries, strict=True)] if letter.transposed else entries
            product = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*entries, strict=True)] for row in product]
        factor = normalform.evaluate(coefficient, values)
        assert factor is not None, "assignments are positive whole numbers"
        total = [[a + factor * b for a, b in zip(row, more, strict=True)] for row, more in zip(total, product, strict=True)]
    return total


def _told(entries: list[list[Fraction]]) -> str:
    return "[" + ", ".join("[" + ", ".join(map(str, row)) + "]" for row in entries) + "]"
