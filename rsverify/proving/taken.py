"""What one lemma takes from another: the formula that a named step establishes, as an object, never typed again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy as sp

from rsverify.proving.checks import ProofError
from rsverify.proving.lemma import Lemma
from rsverify.proving.matrices import Matrix
from rsverify.proving.normalform import symbols_of


class Taken:
    """The formulas of a lemma's named steps, called by name with the values that their symbols and matrices are given.

    In words: `channel("square_q", dot=x_norm2)` is the formula that the step `square_q` claims, at dot = x_norm2.

    Args: `changed` are formulas put in the place of those claimed, by name: that is how a test corrupts what is taken.
    """

    def __init__(self, lemma: Lemma, changed: Mapping[str, Any]) -> None:
        self.lemma = lemma.name
        self._claimed = {step.name: step.check.claimed for step in lemma.steps if step.name}
        self._changed = dict(changed)

    def __call__(self, step: str, values: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """A formula, relation or matrix, with values put in for symbols and letters by name, all at once.

        Raises: ProofError where no step has the name, or nothing in its formula has the name of a value.
        """
        if step not in self._claimed:
            raise ProofError(f"lemma {self.lemma!r} has no step named {step!r}; it has {', '.join(self._claimed) or 'none'}")
        formula, given = self._changed.get(step, self._claimed[step]), {**(values or {}), **more}
        names = {*_letters(self._claimed[step]), *(str(symbol) for symbol in _symbols(self._claimed[step]))}
        if strangers := set(given) - names:
            raise ProofError(
                f"step {step!r} of lemma {self.lemma!r} speaks of {', '.join(sorted(names))}, and not of {', '.join(sorted(strangers))}"
            )
        scalars = {symbol: sp.Integer(0) + given[str(symbol)] for symbol in _symbols(formula) if str(symbol) in given}
        if isinstance(formula, Matrix):
            return formula.put({name: given[name] for name in _letters(formula) if name in given}, scalars)
        return formula.xreplace(scalars)


def _symbols(formula: Any) -> list[sp.Symbol]:
    return symbols_of(*formula.terms.values()) if isinstance(formula, Matrix) else symbols_of(formula)


def _letters(formula: Any) -> set[str]:
    return {letter.name for word in formula.terms for letter in word} if isinstance(formula, Matrix) else set()
