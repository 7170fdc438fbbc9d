"""LoRA as a sum over its rank channels: exact for coordinatewise optimizers while A keeps to its init."""
