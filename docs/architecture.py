"""Draws docs/_static/architecture.svg from the imports of the package, and refuses circles: `python docs/architecture.py`.

A box is a room, a row is a floor, an arrow goes from who imports to what is imported. Floors are computed, not given: a room stands
one above the highest room that it imports. Imports that only name types are left out; those inside functions count. An arrow that follows
from others is not drawn.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
PACKAGE = "rsverify"
PICTURE = HERE / "_static" / "architecture.svg"
Graph = dict[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package below `root` by its dotted name."""
    named = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def _import_statements(node: ast.AST, *, delayed: bool) -> Iterable[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not delayed
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not for_types and not later:
            yield from _import_statements(child, delayed=delayed)


def imports(root: Path, *, delayed: bool = True) -> Graph:
    """Who imports whom, module by module; `from package import name` is an import of the module of that name where there is one.

    Args: delayed = also the imports inside functions, which a module makes when it is used.
    """
    named = modules(root)
    graph: Graph = {name: set() for name in named}
    for name, path in named.items():
        for statement in _import_statements(ast.parse(path.read_text(encoding="utf-8")), delayed=delayed):
            if isinstance(statement, ast.Import):
                targets = [alias.name for alias in statement.names]
            else:
                home = statement.module or ""
                targets = [f"{home}.{alias.name}" if f"{home}.{alias.name}" in named else home for alias in statement.names]
            graph[name] |= {target for target in targets if target in named and target != name}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one node (Tarjan 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    parts: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            part = []
            while True:
                part.append(stack.pop())
                if part[-1] == name:
                    break
            if len(part) > 1:
                parts.append(sorted(part))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return sorted(parts)


def room_of(name: str, *, below: str = PACKAGE) -> str | None:
    """The room that a module belongs to: what stands directly below `below`; None for modules outside and for `below` itself."""
    if not name.startswith(below + "."):
        return None
    return name.removeprefix(below + ".").partition(".")[0]


def rooms(graph: Mapping[str, set[str]], *, below: str = PACKAGE) -> Graph:
    """The graph of the rooms below a package."""
    found: Graph = {}
    for name, targets in graph.items():
        home = room_of(name, below=below)
        if home is not None:
            others = {room for target in targets if (room := room_of(target, below=below)) is not None}
            found.setdefault(home, set()).update(others - {home})
    return found


def floors(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The rooms floor by floor from the ground up.

    Raises: ValueError where rooms import one another in a circle.
    """
    if around := circles(graph):
        raise ValueError(f"rooms import one another: {'; '.join(' <-> '.join(part) for part in around)}")
    height: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((floor(other) for other in graph[name]), default=-1)
        return height[name]

    rows: list[list[str]] = [[] for _ in range(1 + max(map(floor, graph), default=-1))]
    for name in sorted(graph):
        rows[height[name]].append(name)
    return rows


WIDTH, BOX, ROW, TALL = 1180, 150, 78, 30
INK, LINE, PAPER, MARK = "#1b1f24", "#8c959f", "#ffffff", "#ddf4ff"


def _panel(graph: Mapping[str, set[str]], *, title: str, top: int) -> tuple[list[str], int]:
    """The lines of one picture of rooms, and where it ends."""
    rows = floors(graph)
    place = {}
    for number, row in enumerate(rows):
        y = top + 44 + (len(rows) - 1 - number) * ROW
        for k, name in enumerate(row):
            place[name] = (90 + (k + 0.5) * (WIDTH - 110) / len(row), y)
    lines = [f'<text x="16" y="{top + 18}" font-weight="bold">{escape(title)}</text>']
    for number in range(len(rows)):
        lines.append(f'<text x="16" y="{top + 44 + (len(rows) - 1 - number) * ROW + 20}" fill="{LINE}">floor {number}</text>')
    for name, targets in sorted(graph.items()):
        for other in sorted(_direct(name, targets, graph)):
            (x0, y0), (x1, y1) = place[name], place[other]
            curve = f"M {x0:.0f} {y0 + TALL} C {x0:.0f} {y0 + TALL + 28}, {x1:.0f} {y1 - 28}, {x1:.0f} {y1}"
            lines.append(f'<path d="{curve}" fill="none" stroke="{LINE}" stroke-width="0.9" marker-end="url(#tip)"/>')
    for name, (x, y) in sorted(place.items()):
        box = f'x="{x - BOX / 2:.0f}" y="{y}" width="{BOX}" height="{TALL}" rx="4"'
        lines.append(f'<rect {box} fill="{MARK}" stroke="{INK}" stroke-width="0.8"/>')
        lines.append(f'<text x="{x:.0f}" y="{y + 19}" text-anchor="middle">{escape(name)}</text>')
    return lines, top + 44 + len(rows) * ROW


def _direct(name: str, targets: Iterable[str], graph: Mapping[str, set[str]]) -> set[str]:
    """The rooms imported that no other imported room imports: the rest follows, and would make the picture a thicket."""

    def reached(start: str) -> set[str]:
        return set().union(*(({other} | reached(other)) for other in graph[start]))

    targets = set(targets)
    return targets - set().union(*(reached(other) for other in targets))


def picture(root: Path) -> str:
    """The whole picture as SVG: the rooms of the house, and those of the room that trains."""
    graph = imports(root)
    lines: list[str] = []
    top = 12
    for below, title in ((PACKAGE, "The rooms of the house"), (f"{PACKAGE}.training", "The rooms of training")):
        inside = rooms(graph, below=below)
        if not circles(inside):  # a picture by floors has none for those in a circle: `main` names them
            made, top = _panel(inside, title=f"{title}: who imports whom, downwards", top=top)
            lines += made
            top += 8
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" font-family="sans-serif"'
        f' font-size="12" fill="{INK}"><title>Rooms of rsverify by floor, with what imports what</title>'
        f'<rect width="100%" height="100%" fill="{PAPER}"/><defs><marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6"'
        f' markerHeight="6" orient="auto"><path d="M 0 0 L 6 3 L 0 6 z" fill="{LINE}"/></marker></defs>'
    )
    return "\n".join([head, *lines, "</svg>", ""])


def main() -> int:
    """Write the picture; 1 where rooms, or files by the imports made at their loading, import one another in a circle."""
    root = HERE.parent
    graph = imports(root)
    around = [*circles(imports(root, delayed=False)), *circles(rooms(graph)), *circles(rooms(graph, below=f"{PACKAGE}.training"))]
    for part in around:
        print("circle:", " <-> ".join(part), file=sys.stderr)
    if circles(rooms(graph)):
        return 1
    PICTURE.write_text(picture(root), encoding="utf-8")
    print(f"Written: {PICTURE.relative_to(root)}")
    return int(bool(around))


if __name__ == "__main__":
    sys.exit(main())
