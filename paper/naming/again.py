"""Names of the second whole run on fresh seeds: how many answers came again."""

from __future__ import annotations

from paper.naming import Load, Names
from paper.naming.shown import listed, whole, word


def names(read: Load) -> Names:
    data = read("again")
    against = data["against"]
    questions, findings = against["questions"], against["findings"]
    changed = [it for it in questions if it["outcome"] == "settled in one"]
    kept = [name for name, (earlier, now) in findings.items() if earlier == now]
    titles = {figure["name"]: figure["title"] for figure in data["figures"]}
    out = Names()
    out.texts |= {
        "again.questions": whole(len(questions)),
        "again.same": whole(sum(it["outcome"] == "same" for it in questions)),
        "again.settled-in-one": word(len(changed)),
        "again.leaning": word(sum(it["returned"] for it in changed)),
        "again.contradicted": word(sum(it["outcome"] == "contradicted" for it in questions)),
        "again.findings": word(len(findings)),
        "again.findings.same": word(len(kept)),
        "again.findings.changed": listed(
            [f"“{titles[name]}” ({earlier}, then {now})" for name, (earlier, now) in findings.items() if earlier != now]
        )
        or "none",
        "again.cells": whole(data["cells"]),
    }
    out.words |= {
        "again.answers": "contradicted" if any(it["outcome"] == "contradicted" for it in questions) else "some" if changed else "same",
        "again.conclusions": "same" if len(kept) == len(findings) else "some",
    }
    return out
