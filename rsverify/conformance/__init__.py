"""Is this adapter implementation sound? One call that finds the real bugs in a user's own adapter and says them in the user's words."""

from rsverify.conformance.runner import CheckFailed, check_adapter
from rsverify.conformance.subject import Part, Subject

__all__ = ["CheckFailed", "Part", "Subject", "check_adapter"]
