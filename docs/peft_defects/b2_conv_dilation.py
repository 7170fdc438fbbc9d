# Convolutions: lora_A does not get the base layer's dilation; merged and unmerged are different functions.
# Seen by: peft:lora@conv2d-dilated check_model_merge. Thread: https://github.com/huggingface/peft/issues/3697.
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.Conv2d(3, 4, 3, padding="same", dilation=2))
model = get_peft_model(base, LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
x = torch.randn(1, 3, 8, 8)
unmerged = model(x)
model.merge_adapter()
found, expected = bool((model(x) - unmerged).abs().max() > 1e-3), False
print(f"found {found}, expected {expected}")
