"""What every page and picture is written with: templates of this folder, figures as SVG text, how a result was made."""

from __future__ import annotations

import io
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from rsverify.records import Provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rendered(template: str, **values: Any) -> str:
    """A template of this folder with its values put in: escaped, and none of them missing."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files("rsverify.report").joinpath(template).read_text(encoding="utf-8")).render(**values)


def svg_text(figure: Figure) -> str:
    """A figure as SVG to be set into a page; the same figure gives the same text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "rsverify", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def as_label(text: str) -> str:
    """A text for a picture as it stands: names and rules are data, and a dollar sign in them opens no formula."""
    return text.replace("$", r"\$")


def how_it_was_made(made: Provenance) -> list[tuple[str, str]]:
    """The lines of a page that say from what a result came; the command has a place of its own."""
    found = [("rsverify", made.version), ("commit", made.commit or "none"), ("made", made.created), ("python", made.python)]
    found += [("platform", made.platform), ("device", made.device), ("seed", str(made.seed)), *made.packages.items()]
    found += [(f"hash of {name}", text) for name, text in made.hashes.items()]
    return found + [(name, str(value)) for name, value in made.settings.items() if name != "command"]
