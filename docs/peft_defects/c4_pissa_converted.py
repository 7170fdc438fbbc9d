# Converting PiSSA to LoRA drops DoRA's magnitudes and modules_to_save.
# Seen by: peft:lora@operations check_pissa_converted. Thread: https://github.com/huggingface/peft/issues/1929 (a neighbour).
import tempfile

from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn

config = LoraConfig(r=2, target_modules=["0"], modules_to_save=["1"], init_lora_weights="pissa")
model = get_peft_model(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)), config)
model.peft_config["default"].init_lora_weights = True
# PEFT names the initial adapter after its folder, and refuses a name that ends like a module: "1".
model.save_pretrained(first := tempfile.mkdtemp(suffix="-first"))
model.peft_config["default"].init_lora_weights = "pissa"
model.save_pretrained(last := tempfile.mkdtemp(), path_initial_model_for_weight_conversion=first)
found, expected = any(".1." in key for key in load_file(last + "/adapter_model.safetensors")), True
print(f"found {found}, expected {expected}")
