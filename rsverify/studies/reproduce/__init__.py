"""Every claim of the rsLoRA article on a real transformer, theory first, and with the controls it lacks."""

from rsverify.studies.reproduce.figure import Figure, Foretold, all_figures, as_figures
from rsverify.studies.reproduce.judging import Finding, Part
from rsverify.studies.reproduce.plan import Plan, full, quick
from rsverify.studies.reproduce.study import Report, Section, reproduce

__all__ = ["Figure", "Finding", "Foretold", "Part", "Plan", "Report", "Section", "all_figures", "as_figures", "full", "quick", "reproduce"]
