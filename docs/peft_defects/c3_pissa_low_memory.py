# low_cpu_mem_usage=True cannot load PiSSA or OLoRA adapters.
# Seen by: peft:lora?init_lora_weights=pissa&low_cpu_mem_usage=true check_load_function. Thread: no thread found.
import tempfile

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

config, found, expected = LoraConfig(target_modules=["0"], init_lora_weights="pissa"), "loaded", "loaded"
get_peft_model(nn.Sequential(nn.Linear(8, 8)), config).save_pretrained(folder := tempfile.mkdtemp())
try:
    PeftModel.from_pretrained(nn.Sequential(nn.Linear(8, 8)), folder, low_cpu_mem_usage=True)
except RuntimeError as error:
    found = str(error)[:60]
print(f"found {found}, expected {expected}")
