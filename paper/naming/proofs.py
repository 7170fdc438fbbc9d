"""Names of the proofs: lemmas, steps, corrupted twins."""

from __future__ import annotations

from paper.naming import Load, Names
from paper.naming.shown import whole, word


def names(read: Load) -> Names:
    lemmas = read("proofs")["lemmas"]
    steps: dict[str, int] = {}
    twins: dict[str, int] = {}
    for lemma in lemmas:
        for status, count in lemma["steps"].items():
            steps[status] = steps.get(status, 0) + count
        for status, count in lemma["twins"].items():
            twins[status] = twins.get(status, 0) + count
    out = Names()
    out.words["proofs"] = "all" if set(steps) <= {"proved", "cited"} and set(twins) == {"refuted"} else "some"
    out.texts |= {
        "proofs.lemmas": whole(len(lemmas)), "proofs.steps": whole(sum(steps.values())), "proofs.proved": whole(steps.get("proved", 0)),
        "proofs.cited": word(steps.get("cited", 0)), "proofs.twins": whole(sum(twins.values())),
        "proofs.twins.refused": whole(twins.get("refuted", 0)),
        "proofs.twins.other": word(sum(twins.values()) - twins.get("refuted", 0)),
        "proofs.steps.other": word(sum(count for status, count in steps.items() if status not in ("proved", "cited"))),
    }  # fmt: skip
    out.tables["proofs"] = [[lemma["name"], lemma["statement"], lemma["status"]] for lemma in lemmas]
    return out
