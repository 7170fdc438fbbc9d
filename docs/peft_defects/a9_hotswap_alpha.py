# Hot swap leaves rank and alpha of the layer stale: set_scale(1) brings the old adapter's scale back.
# Seen by: peft:lora?hotswap=true check_load_scale. Thread: https://github.com/huggingface/peft/issues/3581.
import tempfile

from peft import LoraConfig, get_peft_model
from peft.utils.hotswap import hotswap_adapter
from torch import nn

one, two = (get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=4, lora_alpha=a, target_modules=["0"])) for a in (4, 20))
one.save_pretrained(folder := tempfile.mkdtemp())
hotswap_adapter(two, folder, "default", torch_device="cpu")
expected = two.base_model.model[0].scaling["default"]
two.base_model.model[0].set_scale("default", 1.0)
found = two.base_model.model[0].scaling["default"]
print(f"found {found}, expected {expected}")
