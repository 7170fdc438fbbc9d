"""Hugging Face PEFT: every tuner that takes a rank as a subject of the conformance suite, in one line."""

from rsverify.interop.peft.subject import subject_from_peft
from rsverify.interop.peft.target import NotApplicable, Recipe, parse_peft_target

__all__ = ["NotApplicable", "Recipe", "parse_peft_target", "subject_from_peft"]
