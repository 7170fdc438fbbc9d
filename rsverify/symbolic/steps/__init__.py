"""Magnitudes after steps, a file for each kind of optimizer; `optimizers` chooses among them."""
