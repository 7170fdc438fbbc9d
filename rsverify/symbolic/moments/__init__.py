"""Expectations of an adapter's products: tensor networks, their diagrams, and sums of the data over index classes."""
