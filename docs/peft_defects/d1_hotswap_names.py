# Hot-swapping 'default' fills every adapter whose name holds 'default' with zeros.
# Seen by: peft:lora@operations check_hotswap_neighbour. Thread: https://github.com/huggingface/peft/issues/3780.
import tempfile

from peft import LoraConfig, get_peft_model
from peft.utils.hotswap import hotswap_adapter
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(target_modules=["0"]))
model.add_adapter("default_2", LoraConfig(target_modules=["0"], init_lora_weights=False))
expected = float(model.base_model.model[0].lora_B["default_2"].weight.norm())
model.save_pretrained(folder := tempfile.mkdtemp(), selected_adapters=["default"])
hotswap_adapter(model, folder, "default", torch_device="cpu")
found = float(model.base_model.model[0].lora_B["default_2"].weight.norm())
print(f"found {found}, expected {expected}")
