"""Adapters deleted and saved by name, whatever modules and other adapters are called."""

from __future__ import annotations

from torch import nn

from rsverify.conformance.outcomes import Wrong
from rsverify.interop.peft.library import library
from rsverify.interop.peft.operations.toys import adapt, make
from rsverify.interop.peft.ownchecks import operation


@operation("lora")
def check_delete_named() -> None:
    """A deleted adapter is gone from every module, whatever the module is called."""
    for name in ("lin", "flora_lin"):
        model = adapt(nn.ModuleDict({name: nn.Linear(8, 6)}), target_modules=[name])
        model.delete_adapter("default")
        if "default" in model.base_model.model[name].lora_A:
            raise Wrong(f"after delete_adapter the module {name!r} still holds the adapter")


@operation("lora")
def check_save_named() -> None:
    """What is saved of an adapter does not depend on another adapter's name."""
    for other in ("second", "lin"):
        model = adapt(nn.ModuleDict({"lin": nn.Linear(8, 6)}), target_modules=["lin"])
        model.add_adapter("mine", make(target_modules=["lin"]))
        before = set(library().get_peft_model_state_dict(model, adapter_name="mine"))
        model.add_adapter(other, make(target_modules=["lin"]))
        after = set(library().get_peft_model_state_dict(model, adapter_name="mine"))
        if after != before:
            raise Wrong(f"beside an adapter called {other!r}, {len(after)} tensors are saved instead of {len(before)}")
