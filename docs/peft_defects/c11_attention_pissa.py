# MultiheadAttention with PiSSA, OLoRA or the orthogonal init: AttributeError.
# Seen by: peft:lora@attention-pissa check_model_init. Thread: no thread found.
from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.MultiheadAttention(8, 2))
try:
    get_peft_model(base, LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa"))
    found, expected = "built", "built"
except AttributeError as error:
    found, expected = str(error), "built"
print(f"found {found}, expected {expected}")
