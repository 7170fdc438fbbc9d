"""Names of the conformance suite: checks, mutants, false alarms on sound adapters."""

from __future__ import annotations

from paper.naming import Load, Names
from paper.naming.shown import listed, whole, word
from paper.sources import SOURCES


def names(read: Load) -> Names:
    data, alarms = read("suite"), read("false_alarms")
    mended = read("false_alarms_mended") if "false_alarms_mended" in SOURCES else None
    out = Names()
    caught = sum(family["caught"] for family in data["families"])
    out.words["suite"] = "all" if caught == data["mutants"] and not data["checks_that_catch_nothing"] else "some"
    causes = sorted({check for row in alarms["rows"] for check in row["alarms"]})
    found = alarms["adapters_with_a_false_alarm"]
    clean = mended is not None and mended["checks_run"] == causes and mended["adapters_with_a_false_alarm"] == 0
    out.words["suite.alarms"] = "zero" if found == 0 else "mended" if clean else "some"
    answers = alarms["answers"]
    out.texts |= {
        "suite.checks": whole(data["checks"]), "suite.mutants": whole(data["mutants"]), "suite.caught": whole(caught),
        "suite.families": word(len(data["families"])), "suite.idle": word(len(data["checks_that_catch_nothing"])),
        "suite.single": whole(data["caught_by_one_check_only"]),
        "suite.threads": whole(sum(family["threads"] for family in data["families"])),
        "suite.sound": whole(alarms["adapters"]), "suite.alarms": word(alarms["adapters_with_a_false_alarm"]),
        "suite.answers": whole(sum(answers.values())), "suite.answers.open": whole(answers.get("inconclusive", 0)),
        "suite.mended.sound": whole(0 if mended is None else mended["adapters"]), "suite.checks-then": whole(len(alarms["checks_run"])),
        "suite.alarms.causes": listed(causes), "suite.alarms.commit": (alarms["provenance"]["commit"] or "none")[:7],
    }  # fmt: skip
    out.tables["suite"] = [
        [family["family"], whole(family["mutants"]), whole(family["caught"]), whole(family["threads"])] for family in data["families"]
    ]  # fmt: skip
    return out
