"""Kernels in C for the compact transformer, compiled once on the machine that uses them; autograd where that fails or is the faster way."""
