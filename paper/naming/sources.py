"""Names of the evidence itself: what each file was made by, when, from which commit, and what of it was vouched for."""

from __future__ import annotations

from paper.naming import Load, Names
from paper.naming.shown import listed, word
from paper.sources import SOURCES, carried, changed, living, vouched


def names(read: Load) -> Names:
    out, entries = Names(), living(carried())
    table = out.tables["sources"] = []
    packages: dict[str, str] = {}
    for name, source in SOURCES.items():
        made = read(name)["provenance"]
        packages = {**packages, **made["packages"]}
        state = "as of its commit" if source.dated else "fresh"
        if any(vouched(found, entries) for found in changed(name, source)):
            state = "carried"
        commit = (made["commit"] or "none").removesuffix("+changes")[:7] + ("+" if "+changes" in (made["commit"] or "") else "")
        table.append(
            {"file": source.path.split("/")[-1], "command": source.command, "day": made["created"][:10], "commit": commit, "state": state}
        )
    grouped: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        grouped.setdefault((entry["source"], entry["because"]), []).append(entry["room"])
    out.tables["sources.carried"] = [
        {"source": source, "rooms": listed(rooms), "because": because} for (source, because), rooms in grouped.items()
    ]
    out.words["sources.carried"] = "some" if entries else "zero"
    out.words["sources.gpu"] = "no" if all(read(name)["provenance"]["device"] == "cpu" for name in SOURCES) else "yes"
    out.texts["sources.files"] = word(len(SOURCES))
    out.texts |= {f"sources.{package}": version for package, version in packages.items()}
    return out
