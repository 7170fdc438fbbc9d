"""What the witnesses say and what the judge answers: frozen records, to JSON and back unchanged.

Data flows one way: Claim -> Prediction, Estimate, Measurement -> Row -> Verdict -> report. Nothing here knows how a
number was made; every record knows of what it speaks.
"""

from rsverify.records.answers import (
    EXIT_CODES,
    OUTCOMES,
    Agreement,
    CheckResult,
    CheckStatus,
    Outcome,
    Provenance,
    Row,
    Stability,
    Verdict,
)
from rsverify.records.claims import PLAIN_QUANTITIES, REGIMES, STATISTICS, Claim, parse_probe
from rsverify.records.codec import SCHEMA, dumps, from_json, loads, to_json
from rsverify.records.scaling import StableScaling, decay_exponent
from rsverify.records.witnesses import Control, Estimate, Measurement, Point, Prediction

__all__ = [
    "EXIT_CODES", "OUTCOMES", "PLAIN_QUANTITIES", "REGIMES", "SCHEMA", "STATISTICS", "Agreement", "CheckResult", "CheckStatus", "Claim",
    "Control", "Estimate", "Measurement", "Outcome", "Point", "Prediction", "Provenance", "Row", "Stability", "StableScaling", "Verdict",
    "decay_exponent", "dumps", "from_json", "loads", "parse_probe", "to_json",
]  # fmt: skip
