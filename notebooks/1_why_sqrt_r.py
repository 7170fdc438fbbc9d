# %% [markdown]
# # 1. Why sqrt(r): one rank channel, then many
#
# **Question.** LoRA adds `gamma * B @ A` to a frozen weight, with `B = 0` at the start. How far does the first SGD step move the output, and
# what has `gamma` to do as the rank grows so that it always moves equally far?
#
# **Prediction on paper.** Let `v` be the loss gradient at the output. The step changes `B` by `-lr * gamma * v (A x)'`. The output at the
# same input then changes by
#
# `gamma * dB @ A @ x = -gamma**2 * lr * v * sum over k of (a_k . x)**2`
#
# where `a_k` is row `k` of `A`. Each rank channel gives a square: never negative, so they add up. A sum of `r` squares has size `r`.
# To keep `gamma**2 * r` of one size, `gamma` must go as `1/sqrt(r)`. At an input that is orthogonal to `x` the channels give products of
# mean zero; their sum has size `sqrt(r)` only.

# %%
import matplotlib.pyplot as plt
import numpy as np

import rsverify as rv
from rsverify.statistics.streams import stream

d_in, ranks = 64, np.array([1, 4, 16, 64, 256])

# %% [markdown]
# **Experiment.** Nothing of the package but its named random streams: draw `A`, add up channels. One set of draws serves all ranks: the
# first `r` channels are an adapter of rank `r`.

# %%
x = np.ones(d_in)
y = x * np.where(np.arange(d_in) % 2, -1, 1)  # orthogonal to x, of the same length
A = stream(0, "course", "channels").standard_normal((400, ranks.max(), d_in)) / np.sqrt(d_in)
same, other = (A @ x) ** 2, (A @ x) * (A @ y)


def size(channels: np.ndarray) -> np.ndarray:
    """Root mean square over draws of the sum of the first r channels, at each rank."""
    return np.array([np.sqrt(np.mean(channels[:, :r].sum(1) ** 2)) for r in ranks])


aligned, orthogonal = size(same), size(other)

# %%
figure, panel = plt.subplots(figsize=(6, 3.6), layout="constrained")
panel.loglog(ranks, aligned, "o-", color="#0072B2", label="same input: sum of squares")
panel.loglog(ranks, np.sqrt(ranks * (ranks + 2)), "k:", label="sqrt(r (r + 2))")
panel.loglog(ranks, orthogonal, "s--", color="#D55E00", label="orthogonal input")
panel.loglog(ranks, np.sqrt(ranks), "k-.", label="sqrt(r)")
panel.set(xlabel="rank r", ylabel="size of the sum over channels")
panel.legend()
plt.show()

# %% [markdown]
# The package says the same of the whole adapter, for any rule:

# %%
for rule in ("alpha", "alpha/sqrt(r)", "alpha/r"):
    print(f"{rule:14} update goes as r**({rv.derive('lora', rule, optimizer='sgd').exponent})")

# %% [markdown]
# **What would have refuted it.** A sum over channels that grows with another power: for instance `sqrt(r)` at the same input, as one finds when
# the channels are taken for independent signs. Then `r**-1/4` would be the stable rule.
#
# **Exercises.**
# 1. What is the stable rule if all that matters is the orthogonal input?
# 2. At cosine 0.1 between the inputs, from which rank on does the aligned part win?

# %%
# Solution 1: gamma**2 * sqrt(r) keeps its size for gamma ~ r**-1/4.
orthogonal_rule = rv.solve("lora", optimizer="sgd", probe="orthogonal").rule_exponent
print("orthogonal: gamma ~ r **", -orthogonal_rule)
# Solution 2: the aligned part is c * r, the rest sqrt(r): they are equal at r = 1 / c**2.
print("cosine 0.1: from rank", round(1 / 0.1**2))

# %% [markdown]
# **Lesson.**

# %%
assert np.all(np.abs(aligned / np.sqrt(ranks * (ranks + 2.0)) - 1) < 0.41)  # five standard errors at rank one, where they are widest
slope = np.log(aligned[-1] / aligned[1]) / np.log(ranks[-1] / ranks[1])
assert abs(slope - 1) < 0.1 and str(orthogonal_rule) == "1/4"
assert rv.solve("lora", optimizer="sgd").rule_exponent * 2 == 1  # gamma ~ r**-1/2
