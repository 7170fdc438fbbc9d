"""What a check can end in when it does not hold: wrong, nothing to say, or not decided."""

from __future__ import annotations


class Wrong(AssertionError):
    """The implementation does what it must not; the message is for its author."""


class Skip(Exception):
    """The check has nothing to say of this subject; the message is the reason."""


class Unsettled(Exception):
    """The draws do not decide; the message names the price."""
