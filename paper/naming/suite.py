"""Names of the conformance suite: checks, mutants, false alarms on sound adapters."""

from __future__ import annotations

from paper.naming import Load, Names
from paper.naming.shown import whole, word


def names(read: Load) -> Names:
    data, alarms, mended = read("suite"), read("false_alarms"), read("false_alarms_mended")
    out = Names()
    caught = sum(family["caught"] for family in data["families"])
    out.words["suite"] = "all" if caught == data["mutants"] and not data["checks_that_catch_nothing"] else "some"
    out.words["suite.alarms"] = "zero" if alarms["adapters_with_a_false_alarm"] == 0 else "some"
    out.words["suite.mended"] = "zero" if mended["adapters_with_a_false_alarm"] == 0 else "some"
    answers = alarms["answers"]
    out.texts |= {
        "suite.checks": whole(data["checks"]), "suite.mutants": whole(data["mutants"]), "suite.caught": whole(caught),
        "suite.families": word(len(data["families"])), "suite.idle": word(len(data["checks_that_catch_nothing"])),
        "suite.single": whole(data["caught_by_one_check_only"]),
        "suite.threads": whole(sum(family["threads"] for family in data["families"])),
        "suite.sound": whole(alarms["adapters"]), "suite.alarms": word(alarms["adapters_with_a_false_alarm"]),
        "suite.answers": whole(sum(answers.values())), "suite.answers.open": whole(answers.get("inconclusive", 0)),
        "suite.mended": word(mended["adapters_with_a_false_alarm"]), "suite.mended.sound": whole(mended["adapters"]),
        "suite.mended.checks": word(len(mended["checks_run"])), "suite.checks-then": whole(len(alarms["checks_run"])),
    }  # fmt: skip
    out.tables["suite"] = [
        [family["family"], whole(family["mutants"]), whole(family["caught"]), whole(family["threads"])] for family in data["families"]
    ]  # fmt: skip
    return out
