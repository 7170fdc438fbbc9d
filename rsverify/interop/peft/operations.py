"""PEFT's operations on whole models: redistribution, hot swap, conversion, names, modes; each held to what it promises.

A check is a function of no arguments that raises `Wrong`. It has a sound case beside the one that is known to break, where there is
one, so that it is seen to pass and to fail. Its target is `peft:METHOD@operations`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rsverify.conformance.registry import Wrong
from rsverify.interop.peft.library import library

Operation = Callable[[], None]
OPERATIONS: dict[tuple[str, str], Operation] = {}
"""Checks by target and name."""

CLOSE = 1e-4
"""Relative error of a ratio or a weight: a thousand roundings of float32, a thousandth of the errors that are looked for."""


def operation(method: str) -> Callable[[Operation], Operation]:
    """Make a function a check of a method's operations."""

    def add(function: Operation) -> Operation:
        OPERATIONS[f"peft:{method}@operations", function.__name__] = function
        return function

    return add


def adapt(base: nn.Module, config: str = "LoraConfig", **settings: Any) -> Any:
    """A model under a config, on its module "0" unless told otherwise."""
    return library().get_peft_model(base, make(config, **settings))


def make(config: str = "LoraConfig", **settings: Any) -> Any:
    where = {} if "target_parameters" in settings else {"target_modules": ["0"]}
    return getattr(library(), config)(**{**where, **settings})


def chain(*sizes: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Linear layers one after the other, the same at every call."""
    torch.manual_seed(5)
    return nn.Sequential(*(nn.Linear(i, o, dtype=dtype) for i, o in pairwise(sizes)))


def x_for(size: int = 8) -> Tensor:
    return torch.linspace(-1.0, 2.0, 3 * size).reshape(3, size)


def stir(model: nn.Module, name: str) -> None:
    """Move the parameters whose names hold a word."""
    torch.manual_seed(7)
    for key, value in model.named_parameters():
        if name in key:
            value.data.add_(0.3 * torch.randn_like(value))


@contextmanager
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as path:
        yield path


def hotswap(model: Any, path: str, name: str = "default") -> None:
    from peft.utils.hotswap import hotswap_adapter

    hotswap_adapter(model, path, name, torch_device="cpu")


def same(found: float, expected: float, what: str) -> None:
    if not math.isclose(found, expected, rel_tol=CLOSE, abs_tol=1e-9):
        raise Wrong(f"{what}: {found:.6g}; expected {expected:.6g}")


def equal(found: Tensor, expected: Tensor, what: str) -> None:
    off = float((found - expected).detach().norm()) / float(expected.detach().norm())
    if not off <= CLOSE:
        raise Wrong(f"{what}: off by {off:.2g} of itself")


@operation("lora")
def check_eva_scale() -> None:
    """EVA's redistribution of ranks keeps the scale, as it says, under both rules."""
    for rslora in (False, True):
        for new in (2, 6):
            model = adapt(chain(8, 6), r=4, lora_alpha=20, use_rslora=rslora, init_lora_weights="eva")
            before = model.base_model.model[0].scaling["default"]
            library().initialize_lora_eva_weights(model, eva_state_dict={"base_model.model.0": torch.eye(new, 8)})
            same(model.base_model.model[0].scaling["default"], before, f"use_rslora={rslora}: scale after rank 4 became {new}")


@operation("lora")
def check_hotswap_alpha_pattern() -> None:
    """An adapter swapped for itself keeps its scale, with and without patterns."""
    for patterns in ({}, {"alpha_pattern": {"0": 4}}, {"rank_pattern": {"0": 2}}):
        settings: dict[str, Any] = {"r": 8, "lora_alpha": 16, **patterns}
        model = adapt(chain(8, 6), **settings)
        before = model.base_model.model[0].scaling["default"]
        with folder() as path:
            model.save_pretrained(path)
            hotswap(model, path)
        same(model.base_model.model[0].scaling["default"], before, f"{patterns or 'no patterns'}: scale of an adapter swapped for itself")


@operation("lora")
def check_hotswap_saved() -> None:
    """After a hot swap the new adapter's config is saved with its weights."""
    for alpha in (20, 4):
        model = adapt(chain(8, 6), r=4, lora_alpha=20)
        with folder() as path:
            adapt(chain(8, 6), r=4, lora_alpha=alpha).save_pretrained(path)
            hotswap(model, path)
            model.save_pretrained(path)
            same(library().PeftConfig.from_pretrained(path).lora_alpha, alpha, "alpha saved after a hot swap")


@operation("lora")
def check_hotswap_prepared() -> None:
    """prepare_model_for_compiled_hotswap leaves a config that gives the model's scale."""
    from peft.utils.hotswap import prepare_model_for_compiled_hotswap

    for target in (4, 16):
        model = adapt(chain(8, 6), r=4, lora_alpha=20)
        config = model.peft_config["default"]
        prepare_model_for_compiled_hotswap(model, target_rank=target, config=config)
        same(config.lora_alpha / config.r, 5.0, f"scale of the config, prepared for rank {target}")


@operation("lora")
def check_hotswap_neighbour() -> None:
    """Hot-swapping one adapter leaves the others alone, whatever they are called."""
    for other in ("second", "default_2"):
        model = adapt(chain(8, 6), r=2)
        model.add_adapter(other, make(r=2, init_lora_weights=False))
        B = model.base_model.model[0].lora_B[other].weight
        before = B.detach().clone()
        with folder() as path:
            model.save_pretrained(path, selected_adapters=["default"])
            hotswap(model, path)
        equal(B, before, f"adapter {other!r} after 'default' was swapped")


@operation("lora")
def check_scale_layer_zero() -> None:
    """scale_layer and unscale_layer undo each other, at zero too."""
    for factor in (2.0, 0):
        layer = adapt(chain(8, 6), r=2).base_model.model[0]
        before = layer.scaling["default"]
        layer.scale_layer(factor)
        layer.unscale_layer(factor)
        same(layer.scaling["default"], before, f"after scale_layer({factor}) and unscale_layer({factor})")


@operation("lora")
def check_dora_modes() -> None:
    """With DoRA, training mode without dropout to speak of is evaluation mode, with one and with two active adapters."""
    for names in (["default"], ["default", "b"]):
        config = {"r": 2, "use_dora": True, "init_lora_weights": False, "lora_dropout": 1e-12}
        model = adapt(chain(8, 6), **config)
        model.add_adapter("b", make(**config))
        model.base_model.set_adapter(names)
        stir(model, "magnitude")
        expected = model.train()(x_for())
        equal(model.eval()(x_for()), expected, f"DoRA in evaluation mode with {len(names)} active")


@operation("lora")
def check_dora_cache() -> None:
    """DoraCaching computes what DoRA does without it, after a change of scale too."""
    from peft.helpers import DoraCaching

    model = adapt(chain(8, 6), r=2, use_dora=True, init_lora_weights=False).eval()
    with torch.no_grad():
        plain = model(x_for())
        with DoraCaching():
            equal(model(x_for()), plain, "DoRA with a cache")
            model.base_model.model[0].set_scale("default", 3.0)
            cached = model(x_for())
        model.train().eval()  # training mode empties the cache
        equal(cached, model(x_for()), "DoRA with a cache, after set_scale(3)")


@operation("lora")
def check_pissa_disabled() -> None:
    """disable_adapter() gives the pretrained function back."""
    for init in (True, "pissa"):
        base = chain(8, 6)
        expected = base(x_for()).detach()
        model = adapt(base, r=2, init_lora_weights=init)
        with model.disable_adapter():
            equal(model(x_for()), expected, f"disabled, init_lora_weights={init}")


@operation("lora")
def check_pissa_converted() -> None:
    """Converting PiSSA to LoRA keeps what else is trained: modules_to_save."""
    model = adapt(chain(8, 6, 4), r=2, init_lora_weights="pissa", modules_to_save=["1"])
    config = model.peft_config["default"]
    with folder() as first, folder() as last:
        config.init_lora_weights = True
        model.save_pretrained(first)
        config.init_lora_weights = "pissa"
        model.save_pretrained(last, path_initial_model_for_weight_conversion=first)
        keys = list(load_file(Path(last) / "adapter_model.safetensors"))
    if not any("lora_A" in key for key in keys) or not any(".1." in key for key in keys):
        raise Wrong(f"the converted adapter holds {', '.join(keys)}; modules_to_save are lost")


@operation("lora")
def check_pissa_rank() -> None:
    """The scale of PiSSA is that of the rank it has, above the layer's width too."""
    for r in (2, 5):
        layer = adapt(chain(8, 3), r=r, lora_alpha=20, init_lora_weights="pissa").base_model.model[0]
        rows = layer.lora_A["default"].weight.shape[0]
        same(layer.scaling["default"], 20 / rows, f"scale of {rows} rows, r={r}")


@operation("lora")
def check_pissa_float64() -> None:
    """PiSSA can be built on a float64 model, as the plain init can."""
    for init in (True, "pissa"):
        try:
            adapt(chain(8, 6, dtype=torch.float64), r=2, init_lora_weights=init)
        except TypeError as error:
            raise Wrong(f"init_lora_weights={init} on a float64 model: {error}") from error


@operation("lora")
def check_orthogonal_bfloat16() -> None:
    """The orthogonal init adds nothing beyond one rounding of the weight, in bfloat16 too."""
    for dtype in (torch.float32, torch.bfloat16):
        config = make(r=16, lora_alpha=64, init_lora_weights="orthogonal")
        model = library().get_peft_model(chain(64, 64, dtype=dtype), config, autocast_adapter_dtype=False)
        layer = model.base_model.model[0]
        A, B = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
        share = float((4 * B @ A).norm() / layer.weight.double().norm())
        # Factors of 64 x 16 entries whose rounding does not cancel in B A: what float32 leaves is below a thousandth in any case.
        if share > 1e-3:
            raise Wrong(f"at init it adds {share:.2g} of the base weight in {dtype}: the factors are rounded, and B A is not zero")


@operation("lora")
def check_convert_dora() -> None:
    """convert_to_lora keeps the function of plain LoRA and of DoRA, or refuses."""
    for dora in (False, True):
        model = adapt(chain(6, 6), r=2, use_dora=dora, init_lora_weights=False)
        stir(model, "magnitude")
        W = model.base_model.model[0].weight.detach().clone()
        config, tensors = library().convert_to_lora(model, 6)
        model.merge_adapter()
        A, B = (tensors[f"base_model.model.0.lora_{side}.weight"] for side in "AB")
        equal(config.lora_alpha / config.r * B @ A, model.base_model.model[0].weight - W, f"converted, use_dora={dora}")


@operation("lora")
def check_convert_bias() -> None:
    """convert_to_lora keeps a trained bias, or refuses."""
    model = adapt(chain(6, 6), r=2, lora_bias=True)
    model.base_model.model[0].lora_B["default"].bias.data.fill_(1.0)
    try:
        _, tensors = library().convert_to_lora(model, 6)
    except ValueError:
        return
    if not any("bias" in key for key in tensors):
        raise Wrong("convert_to_lora drops the bias that lora_bias trained")


@operation("lora")
def check_convert_containers() -> None:
    """convert_to_lora keeps every tensor of modules_to_save, containers' too."""
    for head, count in ((nn.Linear(6, 4), 2), (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), 4)):
        base = nn.ModuleDict({"lin": nn.Linear(6, 6), "head": head})
        model = adapt(base, "LoHaConfig", r=2, target_modules=["lin"], modules_to_save=["head"])
        _, tensors = library().convert_to_lora(model, 6)
        same(sum("head" in key for key in tensors), count, "tensors of modules_to_save after convert_to_lora")


@operation("lora")
def check_intruders() -> None:
    """reduce_intruder_dimension with nothing to subtract keeps the adapter, on linear layers and embeddings."""
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    for layer in (nn.Linear(8, 8), nn.Embedding(8, 8)):
        model = adapt(nn.Sequential(layer), r=2, init_lora_weights=False)
        reduce_intruder_dimension(model, mitigation_lambda=1.0, threshold_epsilon=2.0)
        tuned = model.base_model.model[0]
        what = f"{type(layer).__name__}, nothing subtracted"
        equal(tuned.get_delta_weight("intruder_reduced"), tuned.get_delta_weight("default"), what)


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


@operation("lora")
def check_combine_patterns() -> None:
    """A combination's tensors have the ranks that its config says."""
    for patterns in ({}, {"rank_pattern": {"0": 2}}):
        settings: dict[str, Any] = {"r": 8, "target_modules": ["0", "1"], **patterns}
        model = adapt(chain(8, 6, 4), **settings)
        model.add_weighted_adapter(["default"], [1.0], "sum", combination_type="linear")
        new = model.peft_config["sum"]
        rows = model.base_model.model[0].lora_A["sum"].weight.shape[0]
        same(rows, (new.rank_pattern or {}).get("0", new.r), "rank of a combination under rank_pattern")


@operation("lora")
def check_combine_conv1d() -> None:
    """The svd combination of an adapter and nothing of another is that adapter, on linear layers and on Conv1d."""
    for layer, x in ((nn.Linear(8, 4), x_for()), (nn.Conv1d(3, 4, 3), torch.linspace(-1.0, 1.0, 24).reshape(1, 3, 8))):
        model = adapt(nn.Sequential(layer), r=2, init_lora_weights=False)
        model.add_adapter("b", make(r=2, init_lora_weights=False))
        expected = model(x).detach()
        try:
            model.add_weighted_adapter(["default", "b"], [1.0, 0.0], "sum", combination_type="svd")
            model.set_adapter("sum")
            found = model(x)
        except (RuntimeError, IndexError) as error:
            raise Wrong(f"the svd combination on {type(layer).__name__} cannot be made or called: {error}") from error
        equal(found, expected, f"the svd combination of one adapter on {type(layer).__name__}")


@operation("lora")
def check_attention_dropout() -> None:
    """lora_dropout acts in training mode on every layer that takes it."""
    for layer, x in ((nn.Linear(8, 8), x_for()), (nn.Embedding(10, 8), torch.arange(10))):
        model = adapt(nn.Sequential(layer), lora_dropout=0.5, init_lora_weights=False).train()
        if torch.equal(model(x), model(x)):
            raise Wrong(f"lora_dropout=0.5 does nothing on {type(layer).__name__}")


@operation("lora")
def check_lorafa_bias() -> None:
    """The LoRA-FA optimizer steps, with trained biases too."""
    from peft.optimizers import create_lorafa_optimizer

    for bias in (False, True):
        model = adapt(chain(8, 6, 4), r=2, lora_bias=bias, target_modules=["0", "1"])
        model(x_for()).sum().backward()
        try:
            create_lorafa_optimizer(model, r=2, lora_alpha=8, lr=1e-3).step()
        except (RuntimeError, TypeError) as error:
            raise Wrong(f"lora_bias={bias}: the LoRA-FA optimizer's step raises: {error}") from error


@operation("lora")
def check_eval_kept() -> None:
    """An adapter put on a model in evaluation mode is in evaluation mode."""
    model = adapt(chain(8, 6).eval(), lora_dropout=0.5)
    training = [name for name, module in model.base_model.model.named_modules() if module.training]
    if training:
        raise Wrong(f"on a model in evaluation mode {len(training)} of its modules are in training mode: dropout acts")


@operation("adalora")
def check_adalora_rslora() -> None:
    """use_rslora is followed or refused."""
    for rslora, expected in ((False, 5.0), (True, 10.0)):
        try:
            model = adapt(chain(8, 6), "AdaLoraConfig", init_r=4, lora_alpha=20, use_rslora=rslora, total_step=100, init_lora_weights=False)
        except ValueError:
            continue
        layer = model.base_model.model[0]
        product = layer.lora_B["default"] @ (layer.lora_A["default"] * layer.lora_E["default"])
        same(float((layer.get_delta_weight("default") / product).median()), expected, f"scale with use_rslora={rslora}")


@operation("vera")
def check_vera_smaller() -> None:
    """A second adapter of smaller rank computes, or is refused."""
    for r in (4, 2):
        model = adapt(chain(8, 6), "VeraConfig", r=4)
        model.add_adapter("small", make("VeraConfig", r=r))
        model.set_adapter("small")
        try:
            model(x_for())
        except RuntimeError as error:
            raise Wrong(f"a second adapter of rank {r} beside one of rank 4 was accepted, and fails: {error}") from error


@operation("miss")
def check_miss_kinds() -> None:
    """A second adapter of another kind computes, or is refused."""
    for kind in ({}, {"init_weights": "mini", "mini_r": 2}):
        model = adapt(chain(8, 8), "MissConfig", r=4)
        model.add_adapter("second", make("MissConfig", r=4, **kind))
        model.set_adapter("second")
        try:
            model(x_for())
        except RuntimeError as error:
            raise Wrong(f"a second adapter with {kind} was accepted, and fails: {error}") from error


@operation("miss")
def check_miss_mini_merge() -> None:
    """Merging leaves the trained parameter as it is, in float32 and in bfloat16."""
    for dtype in (torch.float32, torch.bfloat16):
        config = make("MissConfig", r=4, mini_r=2, init_weights="mini")
        model = library().get_peft_model(chain(8, 8, dtype=dtype), config, autocast_adapter_dtype=False)
        block = model.base_model.model[0].miss_block
        before = tuple(block["default"].shape)
        model.merge_adapter()
        if tuple(block["default"].shape) != before:
            raise Wrong(f"merging in {dtype} turns the trained parameter {before} into one of {tuple(block['default'].shape)}")


@operation("loha")
def check_loha_rank_dropout() -> None:
    """rank_dropout never makes the output NaN."""
    for rate in (0.1, 0.9):
        torch.manual_seed(0)
        model = adapt(chain(8, 2), "LoHaConfig", r=4, rank_dropout=rate).train()
        if not all(bool(model(x_for()).isfinite().all()) for _ in range(20)):
            raise Wrong(f"rank_dropout={rate} on a layer of 2 outputs gives NaN: the mean of no rows is divided by")
