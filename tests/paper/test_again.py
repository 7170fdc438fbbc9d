"""What the second run says of the first follows from the two records."""

import json

from paper.sources import SOURCES, load
from rsverify.studies.reproduce.comparing import compare


def test_the_comparison_is_that_of_the_two_records():
    first, again = load(SOURCES["reproduce"]), load(SOURCES["again"])
    assert first["provenance"]["settings"] == {**again["provenance"]["settings"], "seed": 0}
    assert json.loads(json.dumps(compare(first, again).to_dict())) == again["against"]
