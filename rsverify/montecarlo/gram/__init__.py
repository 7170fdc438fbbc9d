"""LoRA by the Gram matrix of what the data see of A: exact in law for SGD, momentum, weight decay and clipping."""
