"""Any declared adapter by its own contraction: every factor drawn and trained."""
