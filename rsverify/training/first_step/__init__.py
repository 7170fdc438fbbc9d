"""What the first step shows: probes of a bare model, the step in closed form and by autograd, small learning rates, the witness."""
