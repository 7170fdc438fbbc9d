"""Wrong on purpose: adapters with one thing done wrong each, modelled on bugs that happened, to test checks with.

Each was written from the description of a bug, before and apart from the check that catches it. A file per family.
"""

from rsverify.testing.mutants.registry import Mutant, mutants

__all__ = ["Mutant", "mutants"]
