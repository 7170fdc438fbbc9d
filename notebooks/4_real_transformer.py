# %% [markdown]
# # 4. Collapse in a real transformer
#
# **Question.** Notebooks 1 to 3 looked at one layer with drawn signals. Does a pretrained transformer, on text, do the same?
#
# **Prediction on paper.** For `gamma = r**-p` with `B = 0`, whatever the network: the gradient norm of all factors at init goes as
# `gamma * sqrt(r)`, power `1/2 - p`; the first SGD step at a small learning rate lowers the loss by `lr * |gradient|**2`, power `1 - 2 p`.
# So `alpha/r` gives -1/2 and -1, rsLoRA gives 0 and 0. These are laws of first order; nothing is fitted.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import rsverify as rv

torch.set_num_threads(1)
ranks, rules, seeds = [4, 16, 64], ["alpha/r", "alpha/sqrt(r)"], range(4)

# %% [markdown]
# **Experiment.** The package's base (757k parameters, trained on Python's own help texts), float64, every rank, rule and draw in one pass. The
# text is the caller's; a learning rate of 1e-5 keeps the first step of first order, which is checked below by halving it.

# %%
text = b"A scaling factor that falls too fast with the rank leaves nothing to learn with. " * 8


def run(lr: float):
    task = rv.fine_tuning_task(tokens=32, dtype=torch.float64, text=text, fresh=False)
    return rv.train_stacked(task, rv.grid(ranks, rules, seeds=seeds, lrs=[lr], optimizers=["sgd"]), steps=2, workers=1)


def table(values: np.ndarray) -> np.ndarray:
    """Values by rank, rule and draw; ranks vary slowest and draws fastest."""
    return np.asarray(values).reshape(len(ranks), len(rules), len(seeds))


first, halved = run(1e-5), run(5e-6)
norm = np.sqrt((table(first.gradient_norm[:, 0]) ** 2).mean(2))
fall = table(first.loss[:, 0] - first.loss[:, 1]).mean(2)
fall_halved = table(halved.loss[:, 0] - halved.loss[:, 1]).mean(2)


def power(values: np.ndarray) -> np.ndarray:
    """Power of the rank between the first and the last, for each rule."""
    return np.log(values[-1] / values[0]) / np.log(ranks[-1] / ranks[0])


for at, rule in enumerate(rules):
    print(f"{rule:14} gradient norm r**{power(norm)[at]:+.3f}, loss decrease r**{power(fall)[at]:+.3f}")

# %%
figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for panel, values, name in zip(panels, (norm, fall), ("gradient norm at init", "loss decrease of one SGD step"), strict=True):
    for at, (rule, style, colour) in enumerate(zip(rules, ("s--", "o-"), ("#D55E00", "#0072B2"), strict=True)):
        panel.loglog(ranks, values[:, at] / values[0, at], style, color=colour, mfc="white", label=rule)
    panel.set(xlabel="rank r", ylabel="relative to rank 4", title=name)
    panel.set_xticks(ranks, [str(r) for r in ranks])
    panel.minorticks_off()
    panel.legend()
plt.show()

# %% [markdown]
# **What would have refuted it.** Any of the four powers off by more than 0.1; or a loss decrease that does not halve with the learning rate, which would
# say that the step was no longer of first order and the power a mixture.
#
# **Exercises.** 1. What do the theory and the package say of the loss decrease under AdamW? 2. Why does the network not matter?

# %%
adam = [rv.derive("lora", rule, optimizer="adamw", quantity="loss_decrease").exponent for rule in rules]
print("1:", [str(value) for value in adam])
# 2: with B = 0 the forward pass is that of the bare model, so the signal v at every layer is the same for every rank and rule; what differs is
#    gamma and the sum over rank channels.

# %% [markdown]
# **Lesson.**

# %%
assert np.all(np.abs(power(norm) - [-0.5, 0]) < 0.1)
assert np.all(np.abs(power(fall) - [-1, 0]) < 0.1)
assert np.all(np.abs(fall / fall_halved - 2) < 0.1)
