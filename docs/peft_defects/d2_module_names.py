# A module whose name holds 'lora_': delete_adapter passes it over, and the deleted adapter goes on acting.
# Seen by: peft:lora@operations check_delete_named. Thread: no thread found.
from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.ModuleDict({"flora_lin": nn.Linear(8, 6), "lin": nn.Linear(8, 6)})
model = get_peft_model(base, LoraConfig(target_modules=["flora_lin", "lin"]))
model.delete_adapter("default")
found = "default" in model.base_model.model["flora_lin"].lora_A
expected = "default" in model.base_model.model["lin"].lora_A
print(f"found {found}, expected {expected}")
