"""Names of the second whole run on fresh seeds: how many answers came again."""

from __future__ import annotations

from paper.naming import Load, Names
from paper.naming.shown import listed, whole, word


def names(read: Load) -> Names:
    data = read("again")
    against = data["against"]
    questions, findings = against["questions"], against["findings"]
    settled = [it for it in questions if it["earlier"] != "open"]
    came = [it for it in settled if it["earlier"] in (it["leaning"][1], it["now"])]
    opened = [it for it in questions if it["earlier"] == "open" and it["now"] != "open"]
    lost = {name: (earlier, against["repeated"][name]) for name, (earlier, _) in findings.items() if against["repeated"][name] != earlier}
    alone = {name: pair for name, pair in findings.items() if pair[0] != pair[1]}
    titles = {figure["name"]: figure["title"] for figure in data["figures"]}

    def told(changed: dict[str, tuple[str, str]]) -> str:
        return listed([f"“{titles[name]}” ({earlier}, then {now})" for name, (earlier, now) in changed.items()]) or "none"

    out = Names()
    out.texts |= {
        "again.questions": whole(len(questions)), "again.settled": whole(len(settled)), "again.came": whole(len(came)),
        "again.opened": word(len(opened)), "again.contradicted": word(sum(it["outcome"] == "contradicted" for it in questions)),
        "again.findings": word(len(findings)), "again.findings.came": word(len(findings) - len(lost)), "again.findings.lost": told(lost),
        "again.findings.alone": word(len(findings) - len(alone)), "again.findings.otherwise": told(alone),
    }  # fmt: skip
    out.words |= {
        "again.all-came": "yes" if len(came) == len(settled) else "no",
        "again.verdicts": "some" if lost else "same",
        "again.by-itself": "some" if alone else "same",
    }
    return out
