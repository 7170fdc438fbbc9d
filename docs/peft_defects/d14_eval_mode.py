# get_peft_model leaves new dropout in training mode on a model in evaluation mode.
# Seen by: peft:lora@operations check_eval_kept. Thread: https://github.com/huggingface/peft/issues/3753.
from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.Linear(8, 6)).eval()
model = get_peft_model(base, LoraConfig(target_modules=["0"], lora_dropout=0.5))
found, expected = any(module.training for module in model.base_model.model.modules()), False
print(f"found {found}, expected {expected}")
