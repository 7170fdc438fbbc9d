# %% [markdown]
# # 7. Rank to infinity: LoRA becomes full fine-tuning
#
# **Question.** With `gamma = alpha / sqrt(r)` SGD stays stable at any rank. What does it converge to as the rank grows without end?
#
# **Prediction on paper.** From `B = 0` the first step adds the weight `-gamma**2 * lr * v x' S` with `S = A'A`. The mean of `S` is `r * var * I`, and
# with `var = 1/(3 d_in)` (Kaiming uniform as LoRA uses it) `gamma**2 * r * var = alpha**2 / (3 d_in)`: in the mean the step is one of full
# fine-tuning at the learning rate `lr * alpha**2 / (3 d_in)`, its own in every module. `S / r` strays from its mean by about `sqrt(d_in / r)`,
# so the path should approach full fine-tuning as `r**-1/2`. With `gamma = alpha / r` the same rate falls as `1/r`: no training.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import rsverify as rv
from rsverify.statistics.streams import stream

torch.set_num_threads(1)
limit = rv.limit_of_rank("lora", "alpha/sqrt(r)")
print(f"rsLoRA: {limit.kind}, learning rate {limit.rate.text}, approached as r**({limit.approach})")
print(f"alpha/r: {rv.limit_of_rank('lora', 'alpha/r').kind}")

# %% [markdown]
# **Experiment.** A small network of two layers, six steps on fixed data. Under SGD the rank enters through the matrix `A_0'A_0` alone, and that can be
# drawn for any rank at once; so a rank of a billion costs what rank 16 costs.

# %%
draws = stream(0, "course", "network")
normal = lambda *shape: torch.from_numpy(draws.standard_normal(shape))  # noqa: E731
net = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
with torch.no_grad():
    for parameter in net.parameters():
        parameter.copy_(normal(*parameter.shape) / 2)
x, y = normal(12, 8), normal(12, 3)
losses = [lambda: (net(x) - y).square().mean()] * 6
sgd, alpha, lr = rv.optimizers()["sgd"], 20.0, 0.01

shapes = {"0": (6, 8), "2": (3, 6)}
rates = limit.by_module(shapes, alpha=alpha, lr=lr)
full = rv.train_full(net, rates, losses, optimizer=sgd)
print("learning rates of full fine-tuning, by layer:", {name: round(rate, 4) for name, rate in rates.items()})
print("its losses:", np.round(full.losses, 3))

# %%
ranks = [16, 256, 4096, 65536, 2**20, 2**30]


def distance(rank: int, rule: str, draw: int) -> float:
    """How far the added weights end from those of full fine-tuning, relative to these."""
    gamma = rv.ScalingRule(rule)(rank, alpha)
    found = rv.train_rank_free(net, rv.build_rank_free(net, list(shapes), rank=rank, gamma=gamma, draw=draw), losses, optimizer=sgd, lr=lr)
    apart = sum((found.deltas[name] - full.deltas[name]).square().sum() for name in shapes)
    return float((apart / sum(full.deltas[name].square().sum() for name in shapes)).sqrt())


stabilized = np.array([[distance(rank, "alpha/sqrt(r)", draw) for draw in range(16)] for rank in ranks])
usual = np.array([[distance(rank, "alpha/r", draw) for draw in range(2)] for rank in ranks])
near = np.sqrt((stabilized**2).mean(1))

# %%
figure, panel = plt.subplots(figsize=(6, 3.6), layout="constrained")
panel.loglog(ranks, near, "o-", color="#0072B2", label="alpha/sqrt(r)")
panel.loglog(ranks, near[-1] * (np.array(ranks) / ranks[-1]) ** -0.5, "k:", label="r**-1/2")
panel.loglog(ranks, usual.mean(1), "s--", color="#D55E00", label="alpha/r: stays where it began")
panel.set(xlabel="rank r", ylabel="distance from full fine-tuning")
panel.legend()
plt.show()

# %% [markdown]
# **What would have refuted it.** A distance that levels off above zero, or that needs one learning rate for all modules: try it in exercise 1.
#
# **Exercises.** 1. Fine-tune with the mean of the two rates in both layers: does the distance still vanish? 2. Which alpha gives the first layer a
# full fine-tuning rate of 0.1 at lr = 0.01?

# %%
mean_rate = sum(rates.values()) / 2
one_rate = rv.train_full(net, dict.fromkeys(shapes, mean_rate), losses, optimizer=sgd)
off = float(
    (sum((one_rate.deltas[n] - full.deltas[n]).square().sum() for n in shapes) / sum(full.deltas[n].square().sum() for n in shapes)).sqrt()
)
print(f"1: no, it levels off at {off:.2f}")
print(f"2: alpha = sqrt(0.1 / 0.01 * 3 * 8) = {(0.1 / 0.01 * 3 * 8) ** 0.5:.2f}")

# %% [markdown]
# **Lesson.**

# %%
assert str(limit.approach) == "-1/2" and rv.limit_of_rank("lora", "alpha/r").kind == "no training"
power = np.log(near[-1] / near[2]) / np.log(ranks[-1] / ranks[2])
assert abs(power + 0.5) < 0.1 and near[-1] < 1e-3
assert usual[-1].min() > 0.99 and off > 100 * near[-1]
