# An adapter named like a module makes save_pretrained of another adapter drop that module.
# Seen by: peft:lora@operations check_save_named. Thread: https://github.com/huggingface/peft/issues/3584.
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import nn

model = get_peft_model(nn.ModuleDict({"lin": nn.Linear(8, 6)}), LoraConfig(target_modules=["lin"]))
model.add_adapter("other", LoraConfig(target_modules=["lin"]))
expected = len(get_peft_model_state_dict(model, adapter_name="other"))
model.add_adapter("lin", LoraConfig(target_modules=["lin"]))
found = len(get_peft_model_state_dict(model, adapter_name="other"))
print(f"found {found}, expected {expected}")
