# PiSSA and OLoRA refuse a float64 model.
# Seen by: peft:lora@operations check_pissa_float64. Thread: no thread found.
from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.Linear(8, 6)).double()
try:
    get_peft_model(base, LoraConfig(target_modules=["0"], r=2, init_lora_weights="pissa"))
    found, expected = "built", "built"
except TypeError as error:
    found, expected = str(error)[:60], "built"
print(f"found {found}, expected {expected}")
