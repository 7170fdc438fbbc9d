# reduce_intruder_dimension exchanges A and B on an embedding: nothing is subtracted, yet the delta is another.
# Seen by: peft:lora@operations check_intruders. Thread: no thread found.
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.intruders import reduce_intruder_dimension
from torch import nn

config = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
model = get_peft_model(nn.Sequential(nn.Embedding(8, 8)), config)
reduce_intruder_dimension(model, mitigation_lambda=1.0, threshold_epsilon=2.0)
layer = model.base_model.model[0]
one, two = layer.get_delta_weight("default"), layer.get_delta_weight("intruder_reduced")
found, expected = bool(torch.allclose(one, two, atol=1e-4)), True
print(f"found {found}, expected {expected}")
