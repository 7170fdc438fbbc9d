# Convolutions of every tuner ignore padding_mode: merged and unmerged are different functions.
# Seen by: peft:loha@conv2d-circular check_model_merge. Thread: https://github.com/huggingface/peft/pull/3758.
import torch
from peft import LoHaConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same", padding_mode="circular"))
model = get_peft_model(base, LoHaConfig(r=2, target_modules=["0"], init_weights=False))
x = torch.randn(1, 3, 8, 8)
unmerged = model(x)
model.merge_adapter()
found, expected = bool((model(x) - unmerged).abs().max() > 1e-3), False
print(f"found {found}, expected {expected}")
