"""An adapter as a named-axes expression and the laws of its factors: the one definition that all witnesses read.

    lora = Adapter("lora", "o r, r i -> o i", B=Zero(), A=KaimingUniform(fan_in="i"))

Left of the arrow stands one operand per factor, in the order of the keywords; right of it the added weight, its rows
first. A group "(a p)" on the right is one axis of the weight made of two, the first running slowest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from rsverify.definitions.laws import Law
from rsverify.errors import AdapterError, InputError, UnknownName
from rsverify.expressions import Expression

Sizes = Callable[[int, int, int], Mapping[str, int]]
"""From (d_in, d_out, r) to the sizes of the axes that do not follow by themselves."""


@dataclass(frozen=True)
class RoundedSizes:
    """A function of sizes that rounds, with the formulas that it equals wherever these come out whole: theory reads the formulas."""

    function: Sizes
    formulas: Mapping[str, str]

    def __call__(self, d_in: int, d_out: int, r: int) -> Mapping[str, int]:
        return self.function(d_in, d_out, r)

    def __hash__(self) -> int:
        return hash(self.function)


@dataclass(frozen=True)
class GrowingSizes:
    """A function of sizes that no formula equals, with formulas of how they grow: theory keeps the sizes as symbols n_<axis>, and
    reads the formulas only where the widths go to infinity."""

    function: Sizes
    growth: Mapping[str, str]

    def __call__(self, d_in: int, d_out: int, r: int) -> Mapping[str, int]:
        return self.function(d_in, d_out, r)

    def __hash__(self) -> int:
        return hash(self.function)


_AXIS = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


@dataclass(frozen=True, init=False)
class Adapter:
    """A multilinear low-rank adapter: delta = gamma(r) times the contraction of its factors.

    Args:
        name: how it is called in registries, tables and the command line.
        expression: operands and result in named axes, e.g. "o r, r i -> o i".
        rank_axes: the axes whose size is the rank r.
        sizes: how further axes follow from the widths: a mapping from axis to a formula in d_in, d_out and r, or a
            function of (d_in, d_out, r) that returns a mapping (`RoundedSizes` where it rounds what formulas say).
        rule, source, counts, tags, note: the usual scaling rule, where the adapter comes from, what its rank counts, tags
            for the conformance suite, and anything a reader must know.
        full: the adapter that stands in where the rank makes a factor full, if implementations have one. The witnesses speak of
            the product at every rank.
        factors: the law of each factor by its name, in the order of the operands.
    Raises: AdapterError, with the expression and the place marked.
    """

    name: str
    expression: str
    laws: Mapping[str, Law]
    rank_axes: tuple[str, ...]
    sizes: Mapping[str, str] | Sizes | None
    rule: str
    source: str
    counts: str
    tags: frozenset[str]
    note: str
    full: FullMatrix | None

    def __init__(
        self,
        name: str,
        expression: str,
        *,
        rank_axes: tuple[str, ...] = ("r",),
        sizes: Mapping[str, str] | Sizes | None = None,
        rule: str = "alpha/r",
        source: str = "",
        counts: str = "rows of A",
        tags: frozenset[str] | set[str] = frozenset(),
        note: str = "",
        full: FullMatrix | None = None,
        **factors: Law,
    ) -> None:
        values = {
            "name": name, "expression": expression, "laws": MappingProxyType(dict(factors)), "rank_axes": tuple(rank_axes),
            "sizes": sizes, "rule": rule, "source": source, "counts": counts, "tags": frozenset(tags), "note": note,
            "full": full,
        }  # fmt: skip
        for key, value in values.items():
            object.__setattr__(self, key, value)
        _validate(self)

    def __hash__(self) -> int:
        return hash((self.name, self.expression, self.init))

    @cached_property
    def operands(self) -> Mapping[str, tuple[str, ...]]:
        """Axes of every factor, by the factor's name."""
        left = self.expression.split("->")[0].split(",")
        return MappingProxyType(dict(zip(self.laws, (tuple(text.split()) for text in left), strict=True)))

    @cached_property
    def result(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Axes that make up the rows and the columns of the added weight."""
        groups = re.findall(r"\(([^)]*)\)|([A-Za-z_]\w*)", self.expression.split("->")[1])
        rows, columns = (tuple((grouped or single).split()) for grouped, single in groups)
        return rows, columns

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the factors that training moves."""
        return tuple(name for name, law in self.laws.items() if law.trainable)

    @property
    def ups(self) -> tuple[str, ...]:
        """Names of the up-factors: with an axis of the added weight's rows and none of its columns. Their rate is lr * lr_ratio (LoRA+)."""
        rows, columns = (set(axes) for axes in self.result)
        return tuple(name for name, axes in self.operands.items() if rows & set(axes) and not columns & set(axes))

    @property
    def init(self) -> str:
        """The laws as text, e.g. "B=zero, A=kaiming_uniform(fan_in=i)"."""
        return ", ".join(f"{name}={law.text()}" for name, law in self.laws.items())

    @property
    def axes(self) -> tuple[str, ...]:
        """Every axis once, in the order of first appearance."""
        return tuple(dict.fromkeys(axis for axes in self.operands.values() for axis in axes))

    def axis_sizes(self, r: int, d_in: int, d_out: int) -> dict[str, int]:
        """Size of every axis, and `r`, at a rank and the widths of the adapted layer."""
        rows, columns = self.result
        found: dict[str, int] = {"r": r, **dict.fromkeys(self.rank_axes, r)}
        if len(rows) == 1:
            found.setdefault(rows[0], d_out)
        if len(columns) == 1:
            found.setdefault(columns[0], d_in)
        if callable(self.sizes):
            found.update(self.sizes(d_in, d_out, r))
        elif self.sizes is not None:
            widths = {"d_in": d_in, "d_out": d_out, "r": r}
            found.update({axis: _whole(self, axis, text, widths) for axis, text in self.sizes.items()})
        missing = [axis for axis in self.axes if axis not in found]
        if missing:
            raise AdapterError(f"adapter {self.name!r}: no size follows for axis {missing[0]!r} of {self.expression!r}; give it in sizes=")
        for axes, width, what in ((rows, d_out, "d_out"), (columns, d_in, "d_in")):
            product = math.prod(found[axis] for axis in axes)
            if product != width:
                raise AdapterError(two_sizes(self, axes, f"{what}={width} and {' * '.join(axes)}={product}"))
        return found

    def shapes(self, r: int, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        """Shape of every factor."""
        sizes = self.axis_sizes(r, d_in, d_out)
        return {name: tuple(sizes[axis] for axis in axes) for name, axes in self.operands.items()}

    def check_draws(self, r: int, d_in: int, d_out: int) -> None:
        """Refuse, before anything is drawn, a rank at which a law has no draw: more principal components than a weight has.

        Raises: AdapterError.
        """
        for name, shape in self.shapes(r, d_in, d_out).items():
            try:
                self.laws[name].check_shape(shape)
            except AdapterError as error:
                raise AdapterError(f"adapter {self.name!r}, factor {name}: {error}") from None

    def parameters(self, r: int, d_in: int, d_out: int) -> int:
        """Number of trained entries: what the rank costs."""
        shapes = self.shapes(r, d_in, d_out)
        return sum(math.prod(shapes[name]) for name in self.trainable)

    def with_init(self, **laws: Law) -> Adapter:
        """The same adapter with other laws for the factors named."""
        for name in laws:
            if name not in self.laws:
                raise UnknownName("factor", name, self.laws)
        return replace_adapter(self, factors={**self.laws, **laws})

    def renamed(self, name: str) -> Adapter:
        """The same adapter under another name."""
        return replace_adapter(self, name=name)


@dataclass(frozen=True)
class FullMatrix:
    """What stands in for a low-rank factor where the rank makes it no smaller than the matrix: a full one, whose scale is a convention.

    LoKr keeps its second factor as one matrix from half of that matrix's longer side on. Its rank then counts nothing, and libraries
    disagree about the scale: PEFT goes on dividing alpha by it, LyCORIS sets the scale to 1. A file exchanged between them acts by
    another factor.

    Args:
        adapter: the adapter without the low-rank product; its rank axes are none.
        stands_in: stands_in(r, d_in, d_out), whether it stands in at that rank of a layer of these widths.
        rule: the rule of the scale that then applies, as text; None where the adapter's own goes on, rank and all.
        source: whose convention that is.
    """

    adapter: Adapter
    stands_in: Callable[[int, int, int], bool]
    rule: str | None
    source: str

    def __hash__(self) -> int:
        return hash((self.adapter, self.rule, self.source))


def replace_adapter(adapter: Adapter, *, name: str | None = None, factors: Mapping[str, Law] | None = None) -> Adapter:
    """A copy with another name or other laws; with other laws, what stands in at large ranks is no longer known."""
    return Adapter(
        name or adapter.name, adapter.expression, rank_axes=adapter.rank_axes, sizes=adapter.sizes, rule=adapter.rule,
        source=adapter.source, counts=adapter.counts, tags=adapter.tags, note=adapter.note,
        full=None if factors else adapter.full, **dict(factors or adapter.laws),
    )  # fmt: skip


def _whole(adapter: Adapter, axis: str, text: str, widths: Mapping[str, int]) -> int:
    try:
        value = Expression(text).evaluate(widths)
    except ArithmeticError as error:
        raise AdapterError(f"adapter {adapter.name!r}: size {axis}={text!r} cannot be computed at {dict(widths)} ({error})") from None
    if not math.isfinite(value) or value != round(value) or value < 1:
        raise AdapterError(
            f"adapter {adapter.name!r}: axis {axis!r} would have size {value} at {dict(widths)}; expected a whole number from 1"
        )
    return round(value)


def _marked(adapter: Adapter, problem: str, part: str, start: int = 0) -> str:
    """The problem, the expression and a line of carets under the part that it is about."""
    text = adapter.expression
    found = re.compile(rf"(?<!\w){re.escape(part)}(?!\w)").search(text, start)
    place = found.start() if found else max(text.find(part, start), 0)
    return f"adapter {adapter.name!r}: {problem}\n  {text}\n  {' ' * place}{'^' * max(len(part), 1)}"


def two_sizes(adapter: Adapter, axes: tuple[str, ...], given: str) -> str:
    """What to say where the axes of the result's rows or columns have two sizes: by the width and by `sizes=` or a shared axis."""
    what = f"axis {axes[0]!r} has" if len(axes) == 1 else f"the group of axes {' '.join(axes)} has"
    arrow = adapter.expression.index("->")
    grouped = re.search(r"\(\s*" + r"\s+".join(axes) + r"\s*\)", adapter.expression[arrow:])
    part = grouped[0] if grouped else axes[0]
    return _marked(adapter, f"{what} two sizes, {given}; mend sizes= or the widths", part, arrow)


def _validate(adapter: Adapter) -> None:
    """Refuse what does not add up, showing the expression with the place marked."""
    text = adapter.expression

    def refuse(problem: str, part: str, start: int = 0) -> AdapterError:
        return AdapterError(_marked(adapter, problem, part, start))

    if text.count("->") != 1:
        raise refuse("expected exactly one '->' between operands and result", text)
    left, right = text.split("->")
    operands = [part.split() for part in left.split(",")]
    for word in re.sub(r"[(),]", " ", left + " " + right).split():
        if not _AXIS.fullmatch(word):
            raise refuse(f"{word!r} is not an axis name", word)
    for axes, part in zip(operands, left.split(","), strict=True):
        if not axes:
            raise refuse("an operand without axes", part)
        if len(set(axes)) < len(axes):
            raise refuse("an operand that names an axis twice: traces are not adapters", part.strip())
    if len(operands) != len(adapter.laws):
        given = ", ".join(adapter.laws) or "none"
        raise refuse(
            f"{len(operands)} operands but {len(adapter.laws)} factors ({given}); every factor has one operand, in order", left.strip()
        )
    if not re.fullmatch(r"\s*((\([^()]*\w[^()]*\)|[^\s()]+)\s*)*", right):
        raise refuse("the parentheses of the result do not pair up around axes", right.strip())
    groups = re.findall(r"\([^)]*\)|[^\s()]+", right)
    if len(groups) != 2:
        raise refuse("the result must have two axes or groups, rows then columns", right.strip())
    result = [axis for group in groups for axis in group.strip("()").split()]
    known = {axis for axes in operands for axis in axes}
    for axis in result:
        if axis not in known:
            raise refuse(f"axis {axis!r} of the result is bound by no factor", axis, text.index("->"))
    if len(set(result)) < len(result):
        raise refuse("an axis twice in the result", right.strip())
    for axis in adapter.rank_axes:
        if axis not in known:
            raise refuse(f"rank axis {axis!r} stands in no operand; name the rank axes in rank_axes=", left.strip())
    for name, law in adapter.laws.items():
        if not isinstance(law, Law):
            raise AdapterError(f"adapter {adapter.name!r}: factor {name}={law!r} is not a law; expected Zero(), Gaussian(...), ...")
        if not law.independent and len(operands[list(adapter.laws).index(name)]) != 2:
            raise refuse(f"factor {name} ({law.text()}) needs two axes", left.strip())
    if not any(law.trainable for law in adapter.laws.values()):
        raise AdapterError(f"adapter {adapter.name!r}: every factor is frozen, nothing would train")
    if isinstance(adapter.sizes, Mapping):
        for axis, formula in adapter.sizes.items():
            try:
                Expression(formula).require_names({"r", "d_in", "d_out"})
            except InputError as error:
                raise AdapterError(f"adapter {adapter.name!r}: size of axis {axis}: {error}") from None
    for name, law in adapter.laws.items():
        try:
            # Only a factor that absorbs the scaling factor knows it.
            law.spread.require_names({"r", "d_in", "d_out", *known, *({"gamma"} if law.absorbs_gamma else ())})
            law.refuse_spread(law.spread.names)
        except InputError as error:
            raise AdapterError(f"adapter {adapter.name!r}: spread of factor {name}: {error}") from None
        except AdapterError as error:
            raise AdapterError(f"adapter {adapter.name!r}, factor {name}: {error}") from None
