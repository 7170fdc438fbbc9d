# FourierFT computes in float32 inside a float64 model.
# Seen by: peft:fourierft check_dtype_float64. Thread: no thread found.
import torch
from peft import FourierFTConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.Linear(8, 6)).double()
layer = get_peft_model(base, FourierFTConfig(n_frequency=10, target_modules=["0"])).base_model.model[0]
before = layer.get_delta_weight("default").detach().clone()
layer.fourierft_spectrum["default"].data.mul_(1 + 1e-10)
found, expected = bool(torch.equal(layer.get_delta_weight("default"), before)), False
print(f"found {found}, expected {expected}")
