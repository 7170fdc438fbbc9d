"""The documentation site: `sphinx-build -W docs docs/_build` makes it, offline."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import rsverify  # noqa: E402

project = "rsverify"
author = "The rsverify developers"
copyright = author
version = release = rsverify.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
# The notes of research are the project's own working papers; the course is copied here to be built.
exclude_patterns = ["_build", "jupyter_execute", "research", "peft_defects", "ci-budget.md", "changes.d", "decisions.d"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks are stored with their outputs, and run by a test of their own
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
html_theme = "furo"
html_title = "rsverify"
html_static_path = ["_static"]
html_theme_options = {"source_edit_link": "", "top_of_page_buttons": []}

SECTIONS = ("Args", "Returns", "Shapes", "Raises", "Source", "In words", "Yields", "Attributes")


def as_rst(lines: list[str]) -> list[str]:
    """A docstring of the house as reStructuredText: sections become fields with lists, examples code, stars stay stars."""
    made: list[str] = []
    code = section = False
    listed = False  # in a section whose lines name one argument each
    for line in lines:
        text = line.strip()
        deep = len(line) - len(line.lstrip())
        opening = re.match(rf"({'|'.join(SECTIONS)}):\s*(.*)", text) if deep == 0 else None
        if opening:
            made += ["", f":{opening[1]}: {plain(opening[2])}"]
            code, section, listed = False, True, not opening[2]
        elif not text:
            made.append("")
            section = False
        elif section and listed:
            entry = re.match(r"([A-Za-z_][\w, ()]*):\s+(.*)", text) if deep == 4 else None
            made.append(f"    * ``{entry[1]}``: {plain(entry[2])}" if entry else f"      {plain(text)}")
        elif section:
            made.append(f"    {plain(text)}")
        elif deep >= 4:
            if not code:
                made += ["", ".. code-block:: text", ""]
            made.append("    " + line[4:])
            code = True
        else:
            if code:
                made.append("")
            made.append(plain(text))
            code = False
    return [*made, ""]


def plain(text: str) -> str:
    """Text in which only code between backticks is markup."""
    parts = re.split(r"(`+[^`]+`+)", text)
    return "".join(f"``{part.strip('`')}``" if part.startswith("`") else re.sub(r"([*_|\\])", r"\\\1", part) for part in parts)


def process_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst(lines)


def write_names(app: Any) -> None:
    """The page of public names, one entry for each name of the front door, so that a new name is documented by being public."""
    parts = ["# The Python names", "", "`import rsverify as rv`; every name below is loaded when it is first used.", ""]
    homes: dict[str, list[str]] = {}
    for name in rsverify.__all__:
        homes.setdefault(getattr(rsverify, name).__module__, []).append(name)
    for title, rooms in GROUPS.items():
        names = [(home, name) for home in sorted(homes) if home.startswith(rooms) for name in homes[home]]
        parts += [f"## {title}", ""]
        for home, name in names:
            value = getattr(rsverify, name)
            if not isinstance(value, type):
                kind, options = "autofunction", []
            elif issubclass(value, Exception):
                kind, options = "autoexception", []
            else:
                kind, options = "autoclass", ["   :members:"]
            parts += ["```{eval-rst}", f".. {kind}:: {home}.{name}", *options, "```", ""]
    listed = "\n".join(parts)
    missing = [name for name in rsverify.__all__ if f".{name}\n" not in listed]
    if missing:
        raise ValueError(f"public names in no group of docs/conf.py: {missing}; name their room in GROUPS")
    write(HERE / "reference" / "names.md", listed)


GROUPS = {
    "Adapters, laws, rules, optimizers": ("rsverify.definitions",),
    "What must happen": ("rsverify.symbolic",),
    "What does happen": ("rsverify.montecarlo",),
    "What happens in a real transformer": ("rsverify.training",),
    "Pictures": ("rsverify.report",),
    "Questions that need several witnesses": ("rsverify.studies",),
    "Is an adapter implementation sound?": ("rsverify.conformance", "rsverify.interop"),
    "Records": ("rsverify.records",),
    "Errors": ("rsverify.errors",),
}


def write(path: Path, text: str) -> None:
    """Only where it changed, so that a second build has nothing to do."""
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


ANSWERS = {"holds": "holds", "holds only for": "holds in part", "does not hold here": "does not hold here", "inconclusive": "open"}


def write_reproduction() -> None:
    """What of the article holds here, from the committed evidence: no number of it is typed."""
    evidence = HERE.parent / "paper" / "evidence"
    found, again = (json.loads((evidence / f"{name}.json").read_text(encoding="utf-8")) for name in ("reproduce", "reproduce_again"))
    parts = ["# What of the article holds here", "", "Written from the evidence in `paper/evidence/reproduce.json`;"]
    parts += ["[how to read it](../howto/read_reproduction.md).", "", *(line for note in found["notes"] for line in (note, ""))]
    for figure in found["figures"]:
        parts += [f"## {figure['title']}: {ANSWERS[figure['answer']]}", "", f"**Claim.** {figure['claim']}", ""]
        parts += ["**Theory, before the run.** " + " ".join(figure["foretold"]), "", f"**Here.** {figure['sentence']}", ""]
        parts += [f"`rsverify reproduce {figure['name']}`", ""]
    parts += ["## On fresh seeds", "", f"The whole study, run again with `--seed 1`. {again['against']['sentence']}", ""]
    write(HERE / "reference" / "reproduction.md", "\n".join(parts).replace("**(", "\\*\\*(").replace("r**-", "r\\*\\*-"))


def bring_in(app: Any) -> None:
    """Pages that live elsewhere: the index of proofs, the evidence of the reproduction, the notebooks of the course."""
    write_reproduction()
    index = (HERE.parent / "proofs" / "INDEX.md").read_text(encoding="utf-8")
    write(HERE / "reference" / "proofs.md", re.sub(r"\]\((?!https?:|#)[^)]*\)", "]", index).replace("```mermaid", "```text"))
    course = HERE / "course"
    course.mkdir(exist_ok=True)
    for notebook in (HERE.parent / "notebooks").glob("*.ipynb"):
        shutil.copyfile(notebook, course / notebook.name)


def setup(app: Any) -> None:
    app.connect("builder-inited", bring_in)
    app.connect("builder-inited", write_names)
    app.connect("autodoc-process-docstring", process_docstring)
