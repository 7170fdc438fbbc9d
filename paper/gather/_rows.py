"""A row of a verdict with what the paper says of it, and no more: exponents, intervals, agreement."""

from __future__ import annotations

from typing import Any

from rsverify.records import Row


def plain(row: Row) -> dict[str, Any]:
    """One row as plain data; a witness that was silent is None."""
    claim = row.claim
    heard = {"estimated": row.estimated, "measured": row.measured}
    return {
        "adapter": claim.adapter, "rule": claim.rule, "optimizer": claim.optimizer, "quantity": claim.quantity,
        "statistic": claim.statistic, "probe": claim.probe, "steps": claim.steps, "headline": row.headline,
        "predicted": None if row.predicted is None else row.predicted.exponent,
        "exact": row.predicted is not None and row.predicted.exact,
        **{
            name: None if w is None or w.zero else {"exponent": w.exponent, "interval": w.interval, "level": w.level, "ranks": w.ranks}
            for name, w in heard.items()
        },
        "margin": row.margin, "stability": row.stability, "agreement": row.agreement,
    }  # fmt: skip
