# An embedding with max_norm: merged and unmerged are different functions.
# Seen by: peft:lora@embedding-max-norm check_model_merge. Thread: no thread found.
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.Embedding(10, 8, max_norm=1.0))
model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
x = torch.arange(10)
unmerged = model(x).detach()
model.merge_adapter()
found, expected = bool((model(x) - unmerged).norm() > 1e-3), False
print(f"found {found}, expected {expected}")
