"""What theory says where it is silent: its reason, and the call that simulates the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rsverify.definitions.claims import Setting
from rsverify.definitions.registry import adapters
from rsverify.errors import BudgetError, NotDerivable


@contextmanager
def with_command(asked: Setting) -> Iterator[None]:
    """Refusals from inside name the call that simulates what was asked for."""
    try:
        yield
    except NotDerivable as refused:
        if refused.instead:
            raise
        raise NotDerivable(refused.reason, refused.core, command(asked)) from refused
    except BudgetError as refused:
        raise BudgetError(
            refused.message, needed=refused.needed, allowed=refused.allowed, unit=refused.unit, instead=command(asked)
        ) from refused


def command(asked: Setting) -> str:
    """The call of `estimate` for a setting: of the command line for a registered adapter, else of Python."""
    claim = asked.claim
    options = {"optimizer": claim.optimizer, "quantity": claim.quantity, "statistic": claim.statistic, "probe": claim.probe}
    usual = {"optimizer": "sgd", "quantity": "update", "statistic": "rms", "probe": "aligned", "steps": 1, "regime": "rank"}
    given = {name: value for name, value in {**options, "steps": claim.steps, "regime": claim.regime}.items() if value != usual[name]}
    rule = claim.rule or "1"
    if adapters().get(claim.adapter) == asked.adapter:
        words = "".join(f" --{name} {value}" for name, value in given.items())
        return f'rsverify estimate {claim.adapter} --rule "{rule}"{words}'
    words = "".join(f", {name}={value!r}" for name, value in given.items())
    return f"rv.estimate(adapter, {rule!r}{words})"
