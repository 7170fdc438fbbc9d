"""Kernels in C for the pass written out by hand: compiled once on the machine that uses them, torch in their place where that fails."""
