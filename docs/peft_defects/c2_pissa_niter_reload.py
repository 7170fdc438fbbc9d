# pissa_niter_N is random: reloading takes another residual, and the trained factors sit on it.
# Seen by: peft:lora?init_lora_weights=pissa_niter_4 check_load_function. Thread: https://github.com/huggingface/peft/issues/2270 (near).
from copy import deepcopy

from peft import LoraConfig, get_peft_model
from torch import nn

base = nn.Sequential(nn.Linear(32, 32))
config = LoraConfig(r=4, target_modules=["0"], init_lora_weights="pissa_niter_1")
one, two = (get_peft_model(deepcopy(base), config).base_model.model[0].weight for _ in range(2))
found, expected = bool((one - two).norm() > 1e-2), False
print(f"found {found}, expected {expected}")
