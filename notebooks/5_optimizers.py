# %% [markdown]
# # 5. SGD, Adam, Muon: when the theorem holds
#
# **Question.** The theorem about `alpha/sqrt(r)` is proved for SGD. What becomes of it under Adam and under Muon, and what does that say about
# learning rates?
#
# **Prediction on paper.** Write the size of the first update as `gamma**a * lr * r**b`.
# - SGD: one `gamma` from the forward pass, one from the gradient, `r` channels: `gamma**2 * lr * r`.
# - Adam: each entry moves by `lr` whatever its gradient, the second `gamma` is gone: `gamma * lr * r`.
# - Muon: the step of `B` is a matrix of unit singular values; for one sample it is `v (A x)' / |A x|`, so the output moves by
#   `gamma * lr * |A x|`, which is `gamma * lr * sqrt(r)`.
#
# So at a learning rate free of the rank the stable powers are -1/2, -1 and -1/2.

# %%
import matplotlib.pyplot as plt

import rsverify as rv

optimizers = ("sgd", "adamw", "muon")
rules = ("alpha/r", "alpha/sqrt(r)")

# %%
for optimizer in optimizers:
    stable = rv.solve("lora", optimizer=optimizer)
    ((a, b, c),) = stable.terms
    rates = {rule: str(stable.lr_exponent(rule)) for rule in rules}
    print(f"{optimizer:6} gamma**{a} * lr**{c} * r**{b}: stable gamma ~ r**-{stable.rule_exponent}; lr ~ r**q with q = {rates}")

# %% [markdown]
# **Experiment.** Simulate each pair and hold it against the prediction.

# %%
ranks = [4, 16, 64, 256]
seen = {(o, rule): rv.estimate("lora", rule, optimizer=o, ranks=ranks) for o in optimizers for rule in rules}
theory = {(o, rule): rv.derive("lora", rule, optimizer=o) for o in optimizers for rule in rules}
derived = {key: prediction.exponent for key, prediction in theory.items()}
for key, estimate in seen.items():
    print(f"{key[0]:6} {key[1]:14} derived {derived[key]!s:>4}, simulated [{estimate.interval[0]:+.3f}, {estimate.interval[1]:+.3f}]")

# %%
figure, panels = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
for panel, optimizer in zip(panels, optimizers, strict=True):
    keys = [(optimizer, rule) for rule in rules]
    rv.plot(*(seen[key] for key in keys), *(theory[key] for key in keys), axes=panel, relative=True)
    panel.set(title=optimizer)
    panel.legend(fontsize=7)
    panel.label_outer()
plt.show()

# %% [markdown]
# What does it mean for a learning rate? A run with AdamW and rsLoRA at rank 16, learning rate 2e-4, goes to rank 128:

# %%
moved = rv.transfer(rank=16, alpha=32, lr=2e-4, to_rank=128, rule="alpha/sqrt(r)", optimizer="adamw")
print(f"lr {moved.to_lr:.3g} keeps the first step: 2e-4 / sqrt(8) = {2e-4 / 8**0.5:.3g}")

# %% [markdown]
# **And the gradient norm?** At init it goes as `gamma * sqrt(r)` under every optimizer: the plots of gradient norms that favour rsLoRA are true
# under Adam as well, and say nothing about the size of its steps.

# %%
norm = {o: rv.derive("lora", "alpha/sqrt(r)", optimizer=o, quantity="gradient_norm", steps=0).exponent for o in optimizers}
print({o: str(power) for o, power in norm.items()})

# %% [markdown]
# **What would have refuted it.** An interval that does not hold the derived power: for instance -1 for AdamW with `alpha/r`.
#
# **Exercises.** 1. Which learning rate makes `alpha/r` stable under SGD? 2. Adam with an epsilon far above the gradients: whose exponents?

# %%
print("1: lr ~ r **", rv.solve("lora", optimizer="sgd").lr_exponent("alpha/r"))
# 2: the step is lr / eps times the gradient, an SGD with another learning rate: those of SGD.

# %% [markdown]
# **Lesson.**

# %%
assert [str(rv.solve("lora", optimizer=o).rule_exponent) for o in optimizers] == ["1/2", "1", "1/2"]
assert all(e.interval[0] < float(derived[key]) < e.interval[1] for key, e in seen.items())
assert set(norm.values()) == {0} and abs(moved.to_lr * 8**0.5 / 2e-4 - 1) < 1e-6
