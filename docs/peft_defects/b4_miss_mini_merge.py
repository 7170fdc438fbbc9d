# MiSS mini in bfloat16: merging overwrites the trained parameter with one of another shape.
# Seen by: peft:miss@operations check_miss_mini_merge. Thread: no thread found.
import torch
from peft import MissConfig, get_peft_model
from torch import nn

config = MissConfig(r=4, mini_r=2, init_weights="mini", target_modules=["0"])
model = get_peft_model(nn.Sequential(nn.Linear(8, 8)).to(torch.bfloat16), config, autocast_adapter_dtype=False)
block = model.base_model.model[0].miss_block
expected = tuple(block["default"].shape)
model.merge_adapter()
found = tuple(block["default"].shape)
print(f"found {found}, expected {expected}")
