# target_parameters on a parametrized 3-D parameter: every forward pass adds one more delta.
# Seen by: peft:lora@experts-parametrized check_model_repeatable. Thread: https://github.com/huggingface/peft/pull/2710 (a neighbour).
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

layer = nn.utils.parametrize.register_parametrization(nn.Conv1d(3, 4, 5), "weight", nn.Identity())
config = LoraConfig(target_modules=[], target_parameters=["0.weight"], init_lora_weights=False)
model = get_peft_model(nn.Sequential(layer), config)
expected, _, found = (float(model(torch.ones(1, 3, 5)).norm()) for _ in range(3))
print(f"found {found}, expected {expected}")
