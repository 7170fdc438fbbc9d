# %% [markdown]
# # 3. Reading an exponent with honest error bars
#
# **Question.** You measured a quantity at ranks 4 to 64, fitted a line on logarithmic axes and got a slope with a small error. May you print it?
#
# **Prediction on paper.** Two things go wrong. *Bias*: an exact law such as `E[y**4] = 3 r (r + 2)` is no power law at finite rank; its slope is
# below 2 there, and no amount of data mends that. *Correlation*: draws shared by the ranks (the same `A`, cut off) make the points move
# together; least squares takes them for independent, and its error bars are too narrow.

# %%
import matplotlib.pyplot as plt
import numpy as np

import rsverify as rv
from rsverify.statistics.streams import stream

ranks = np.array([4, 8, 16, 32, 64])
logs = np.log(ranks)

# %% [markdown]
# **Experiment 1: bias.** No noise at all.

# %%
exact_slope, _ = np.polyfit(logs, np.log(3 * ranks * (ranks + 2.0)), 1)
print(f"slope of the exact law between rank 4 and 64: {exact_slope:.2f}; its limit is 2")

# %% [markdown]
# **Experiment 2: correlation.** Two hundred people each draw 64 adapters of rank 64, look at the first 4, 8, ... channels, average, fit, and print
# "slope +- 95 %". How many of their intervals hold the slope that infinitely many draws would show?


# %%
def fitted(repeat: int) -> tuple[float, float]:
    """Slope and half-width of its usual 95 % interval, from nested draws."""
    channels = stream(0, "course", "least squares", repeat).standard_normal((64, 64)) ** 2
    means = np.array([np.mean(channels[:, :r].sum(1) ** 2) for r in ranks])
    slope, offset = np.polyfit(logs, np.log(means), 1)
    left = np.log(means) - slope * logs - offset
    error = np.sqrt((left**2).sum() / 3 / ((logs - logs.mean()) ** 2).sum())
    return slope, 3.182 * error  # Student's 97.5 % quantile with 3 degrees of freedom


found = np.array([fitted(repeat) for repeat in range(200)])
finite_slope = np.polyfit(logs, np.log(ranks * (ranks + 2.0)), 1)[0]
holds_finite = np.mean(np.abs(found[:, 0] - finite_slope) < found[:, 1])
holds_limit = np.mean(np.abs(found[:, 0] - 2) < found[:, 1])
print(f"hold the finite slope {finite_slope:.2f}: {holds_finite:.0%}; hold the limit 2: {holds_limit:.0%}; promised: 95%")

# %% [markdown]
# **The honest way** takes the exact finite-rank law out before it reads a power, draws ranks independently or knows their covariance, and derives
# the number of draws from the error that is allowed:

# %%
adapter = rv.adapters()["lora"].with_init(A=rv.Gaussian(std="1/sqrt(i)"))
honest = rv.estimate(adapter, "alpha", optimizer="sgd", ranks=[int(r) for r in ranks], precision=0.04)
print(f"exponent {honest.exponent:.3f} in [{honest.interval[0]:.3f}, {honest.interval[1]:.3f}], level {honest.level}, {honest.draws} draws")

# %%
figure, panel = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
shown = found[:30]
missed = np.abs(shown[:, 0] - 2) >= shown[:, 1]
for miss, mark, colour, label in ((False, "o", "#0072B2", "holds the limit"), (True, "x", "#D55E00", "misses it")):
    at = np.flatnonzero(missed == miss)
    panel.errorbar(at, shown[at, 0], yerr=shown[at, 1], fmt=mark, color=colour, capsize=2, label=f"least squares, {label}")
panel.axhline(2, color="k", ls=":", label="limit")
panel.axhline(finite_slope, color="k", ls="--", label="slope of the exact law, rank 4 to 64")
panel.set(xlabel="repeat", ylabel="slope of E[q**2]")
panel.legend(ncols=2, fontsize=8)
plt.show()

# %% [markdown]
# **What would have refuted it.** Intervals of least squares that hold the limit in 95 % of the repeats.
#
# **Exercises.** 1. Does a hundred times the draws help least squares? 2. What do ranks 64 to 1024 show?

# %%
# Solution 1: no. The interval shrinks about the biased slope; the limit is missed more surely.
# Solution 2: the bias falls as 1/r:
far = np.array([64, 128, 256, 512, 1024])
far_slope = np.polyfit(np.log(far), np.log(far * (far + 2.0)), 1)[0]
print(f"ranks 64 to 1024: {far_slope:.3f}")

# %% [markdown]
# **Lesson.**

# %%
assert round(exact_slope, 2) == 1.87
assert holds_limit < 0.8  # promised were 95 %; 200 repeats tell these apart by far
assert honest.interval[0] < 1 < honest.interval[1] and honest.interval[1] - honest.interval[0] < 0.11
assert 1.98 < far_slope < 2
