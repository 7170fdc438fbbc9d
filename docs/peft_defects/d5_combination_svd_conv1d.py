# The svd combination of Conv1d adapters: the result cannot be called.
# Seen by: peft:lora@operations check_combine_conv1d. Thread: https://github.com/huggingface/peft/issues/3769.
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

model = get_peft_model(nn.Sequential(nn.Conv1d(3, 4, 3)), LoraConfig(r=2, target_modules=["0"]))
model.add_adapter("b", LoraConfig(r=2, target_modules=["0"]))
try:
    model.add_weighted_adapter(["default", "b"], [1.0, 1.0], "sum", combination_type="svd")
    model.set_adapter("sum")
    found, expected = model(torch.ones(1, 3, 8)) is None, False
except (RuntimeError, IndexError) as error:
    found, expected = str(error)[:60], False
print(f"found {found}, expected {expected}")
