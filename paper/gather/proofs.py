"""Every lemma run by its checkers, and every corrupted twin with it.

Run: python paper/gather/proofs.py   (some ten seconds)
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from paper.gather._save import save
from rsverify.proving.library import prove_all


def main() -> None:
    lemmas = []
    for result in prove_all():
        twins = Counter(twin.check.run().status for step in result.lemma.steps for twin in step.check.twins())
        lemmas.append(
            {
                "name": result.lemma.name, "statement": result.lemma.statement, "status": result.status, "scopes": result.scopes,
                "assumptions": result.lemma.assumptions, "uses": result.lemma.uses, "source": result.lemma.source,
                "steps": dict(Counter(finding.status for finding in result.findings)), "twins": dict(twins),
            }
        )  # fmt: skip
    save("proofs", {"lemmas": lemmas})


if __name__ == "__main__":
    main()
