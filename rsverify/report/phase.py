"""The phase diagram of a quantity over rule exponent and learning-rate exponent: where it collapses, stays, explodes; data and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rsverify.records import StableScaling
from rsverify.report.writing import as_label, svg_text

MARKS: Mapping[str, Fraction] = {"alpha": Fraction(0), "alpha/sqrt(r)": Fraction(1, 2), "alpha/r": Fraction(1)}
"""Rules in use, shown at a learning rate free of the rank."""


@dataclass(frozen=True)
class PhaseDiagram:
    """Exponents of r at gamma ~ r**-p, lr ~ r**q: `exponents[j][i]` belongs to `q[j]`, `p[i]`; `stable` where they are within the margin.

    `line` holds for each p the q at which the exponent is zero, None where no learning rate makes it so.
    """

    adapter: str
    optimizer: str
    quantity: str
    margin: float
    p: tuple[Fraction, ...]
    q: tuple[Fraction, ...]
    exponents: tuple[tuple[Fraction | None, ...], ...]
    phases: tuple[tuple[str, ...], ...]
    line: tuple[Fraction | None, ...]


def phase_diagram(
    found: StableScaling,
    *,
    p: tuple[Fraction, Fraction] = (Fraction(-1), Fraction(2)),
    q: tuple[Fraction, Fraction] = (Fraction(-2), Fraction(2)),
    cells: int = 48,
    margin: float = 0.1,
) -> PhaseDiagram:
    """The diagram's data on a grid of `cells` steps a side, both ends included."""
    across = tuple(p[0] + (p[1] - p[0]) * Fraction(k, cells) for k in range(cells + 1))
    up = tuple(q[0] + (q[1] - q[0]) * Fraction(k, cells) for k in range(cells + 1))
    exponents = tuple(tuple(found.exponent(rule, rate) for rule in across) for rate in up)
    phases = tuple(tuple(phase(value, margin) for value in row) for row in exponents)
    line = tuple(found.lr_exponent(rule) for rule in across)
    return PhaseDiagram(found.adapter, found.optimizer, found.quantity, margin, across, up, exponents, phases, line)


def phase(exponent: Fraction | None, margin: float) -> str:
    """`collapses`, `stable`, `explodes`, or `zero` where the quantity vanishes."""
    if exponent is None:
        return "zero"
    if abs(exponent) <= Fraction(str(margin)):
        return "stable"
    return "explodes" if exponent > 0 else "collapses"


def draw(diagram: PhaseDiagram) -> str:
    """The diagram as SVG text; the same diagram gives the same text."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    names = ("collapses", "stable", "explodes", "zero")
    # Okabe and Ito's colours, pale; the phases are also written, for readers who cannot tell colours.
    colours = ("#9CC9E3", "#8FD3B6", "#F0B58A", "#DDDDDD")
    figure = Figure(figsize=(6.4, 4.6))
    axes = figure.add_axes((0.11, 0.12, 0.86, 0.78))
    p, q = [float(value) for value in diagram.p], [float(value) for value in diagram.q]
    values = [[0.0 if value is None else float(value) for value in row] for row in diagram.exponents]
    held = {cell for row in diagram.phases for cell in row}
    if held != {"zero"}:
        least, most = min(map(min, values)) - 1, max(map(max, values)) + 1
        levels = [min(least, -diagram.margin - 1), -diagram.margin, diagram.margin, max(most, diagram.margin + 1)]
        axes.contourf(p, q, values, levels=levels, colors=colours[:3])
    shown = [(x, float(y)) for x, y in zip(p, diagram.line, strict=True) if y is not None and q[0] <= y <= q[-1]]
    if shown:
        axes.plot(*zip(*shown, strict=True), color="black", linewidth=1.4, label="exponent 0")
    for text, rule in MARKS.items():
        if p[0] <= rule <= p[-1]:
            axes.plot([float(rule)], [0.0], marker="o", color="black", markersize=4)
            axes.annotate(text, (float(rule), 0.0), textcoords="offset points", xytext=(5, 5), fontsize=8)
    for name in names:
        place = _middle(diagram, name)
        if place is not None:
            axes.text(*place, name, ha="center", va="center", fontsize=11)
    axes.set_xlabel("p, of the rule gamma ~ r**-p")
    axes.set_ylabel("q, of the learning rate lr ~ r**q")
    axes.set_title(as_label(f"{diagram.adapter}, {diagram.optimizer}: {diagram.quantity}"), fontsize=10)
    handles = [Patch(color=colours[k], label=name) for k, name in enumerate(names) if name in held]
    axes.legend(handles=handles, fontsize=8, loc="upper left")
    return svg_text(figure)


def _middle(diagram: PhaseDiagram, name: str) -> tuple[float, float] | None:
    """The mean place of a phase's cells, where it is one of them; a band is not written into."""
    found: Sequence[tuple[float, float]] = [
        (float(x), float(y))
        for y, row in zip(diagram.q, diagram.phases, strict=True) for x, cell in zip(diagram.p, row, strict=True) if cell == name
    ]  # fmt: skip
    if len(found) < len(diagram.p) * len(diagram.q) / 12:
        return None
    return sum(x for x, _ in found) / len(found), sum(y for _, y in found) / len(found)
