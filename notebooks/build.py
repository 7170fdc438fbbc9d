"""Runs the text forms and stores them as notebooks with their outputs: `python notebooks/build.py [NAME...]`."""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode, write

HERE = Path(__file__).parent


def run(source: Path) -> NotebookNode:
    """The notebook of a text form, executed in a kernel of its own; what depends on the machine or the hour is left out."""
    notebook = jupytext.read(source)
    notebook.metadata = NotebookNode(
        {
            "jupytext": {"formats": "ipynb,py:percent"},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for at, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{at}"
    NotebookClient(notebook, timeout=120, kernel_name="python3", record_timing=False, coalesce_streams=True).execute()
    return notebook


def sources() -> list[Path]:
    """The text forms of the course, in its order."""
    return sorted(HERE.glob("[1-9]_*.py"))


if __name__ == "__main__":
    for source in sources():
        if len(sys.argv) == 1 or source.stem in sys.argv[1:]:
            write(run(source), source.with_suffix(".ipynb"))
            print(source.stem)
