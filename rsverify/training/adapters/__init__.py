"""Declared adapters as they act on a model: their contraction, on and off its linears, LoRA of any rank without its rank."""
