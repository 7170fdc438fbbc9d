# Hot swap ignores alpha_pattern: an adapter swapped for itself has another scale.
# Seen by: peft:lora@operations check_hotswap_alpha_pattern. Thread: https://github.com/huggingface/peft/issues/3738.
import tempfile

from peft import LoraConfig, get_peft_model
from peft.utils.hotswap import hotswap_adapter
from torch import nn

model = get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=8, alpha_pattern={"0": 4}, target_modules=["0"]))
expected = model.base_model.model[0].scaling["default"]
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    hotswap_adapter(model, folder, "default", torch_device="cpu")
found = model.base_model.model[0].scaling["default"]
print(f"found {found}, expected {expected}")
