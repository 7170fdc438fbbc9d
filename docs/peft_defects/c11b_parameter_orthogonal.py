# target_parameters with PiSSA, OLoRA or the orthogonal init: AttributeError.
# Seen by: peft:lora@experts-orthogonal check_model_init. Thread: no thread found.
from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.MultiheadAttention(8, 2))
config = LoraConfig(r=2, target_modules=[], target_parameters=["0.in_proj_weight"], init_lora_weights="orthogonal")
try:
    get_peft_model(base, config)
    found, expected = "built", "built"
except AttributeError as error:
    found, expected = str(error), "built"
print(f"found {found}, expected {expected}")
