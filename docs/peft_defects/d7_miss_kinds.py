# MiSS: the kind of the first adapter is used for all: a second one of kind mini fails.
# Seen by: peft:miss@operations check_miss_kinds. Thread: https://github.com/huggingface/peft/pull/3379 (its fix, by title and review).
import torch
from peft import MissConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 8)), MissConfig(r=4, target_modules=["0"]))
try:
    model.add_adapter("mini", MissConfig(r=4, mini_r=2, init_weights="mini", target_modules=["0"]))
    model.set_adapter("mini")
    found, expected = model(torch.ones(1, 8)) is None, False
except RuntimeError as error:
    found, expected = str(error)[:60], False
print(f"found {found}, expected {expected}")
