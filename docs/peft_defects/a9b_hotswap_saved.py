# After a hot swap the old config is saved: reloaded, the adapter has the scale of the one it replaced.
# Seen by: peft:lora@operations check_hotswap_saved. Thread: https://github.com/huggingface/peft/issues/3581.
import tempfile

from peft import LoraConfig, get_peft_model
from peft.utils.hotswap import hotswap_adapter
from torch import nn

one, two = (get_peft_model(nn.Sequential(nn.Linear(8, 6)), LoraConfig(r=4, lora_alpha=a, target_modules=["0"])) for a in (4, 20))
one.save_pretrained(folder := tempfile.mkdtemp())
hotswap_adapter(two, folder, "default", torch_device="cpu")
two.save_pretrained(folder)
found, expected = LoraConfig.from_pretrained(folder).lora_alpha, 4
print(f"found {found}, expected {expected}")
