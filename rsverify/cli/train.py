"""`rsverify train`: many configurations of an adapter trained together, their curves written as they come."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from rsverify.cli.options import Alpha, Json, Name, Ranks, Seed, Whole, chosen, complain, refuse_unwritable, ruled, scaled, write_json
from rsverify.cli.stages import log_on_stderr
from rsverify.definitions.devices import refuse_device
from rsverify.errors import refuse_no_workers
from rsverify.files.locks import one_writer
from rsverify.files.reading import TEXT_LIMIT, read_bytes
from rsverify.files.writing import writable_folder
from rsverify.stages import Stages

if TYPE_CHECKING:
    from rsverify.training.stack.train import StackedRun


def train(
    adapter: Name,
    *,
    ranks: Ranks = None,
    rule: Annotated[
        list[str] | None,
        Parameter(name="--rule", allow_leading_hyphen=True, help="Scaling rule, may be repeated [alpha/r, alpha/sqrt(r)]."),
    ] = None,
    optimizer: Annotated[list[str] | None, Parameter(name="--optimizer", help="Optimizer, may be repeated [adamw].")] = None,
    lr: Annotated[str, Parameter(help="Learning rates, e.g. 1e-3 or 1e-4,1e-3.")] = "1e-3",
    seeds: Annotated[Whole, Parameter(help="Draws of every configuration, from --seed on.")] = 3,
    steps: Annotated[Whole, Parameter(help="Optimizer steps.")] = 50,
    tokens: Annotated[Whole, Parameter(help="Tokens of a sequence.")] = 64,
    sequences: Annotated[Whole, Parameter(help="Sequences of a batch.")] = 1,
    targets: Annotated[
        str | None, Parameter(help="Linears to adapt: names, endings or globs, e.g. q,v [all of the base's blocks].")
    ] = None,
    model: Annotated[str | None, Parameter(help="Hugging Face model (folder or hub name) in the place of the base; needs --text.")] = None,
    text: Annotated[Path | None, Parameter(help="Text to train on [sympy's source].")] = None,
    device: Annotated[str, Parameter(help="cpu, cuda or cuda:0.")] = "cpu",
    dtype: Annotated[str, Parameter(help="float64, float32 or bfloat16; factors over bfloat16 are float32.")] = "float32",
    memory: Annotated[
        str | None, Parameter(help="Bound on saved activations, e.g. 256MiB or 2GiB [64MiB, or one configuration a core].")
    ] = None,
    workers: Annotated[
        Whole | None, Parameter(allow_leading_hyphen=True, help="Processes on a CPU [as many as torch has threads].")
    ] = None,
    out: Annotated[Path, Parameter(help="Folder of run.json, curves.csv, curves.png and the checkpoint.")] = Path("rsverify-train"),
    alpha: Alpha | None = None,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Train every rank, rule, learning rate and draw in one pass; started again, it goes on where it was.

    ADAPTER is a name, package.module:object, peft:METHOD?key=value&..., or an adapter_config.json.

    For example:

    - `rsverify train dora --ranks 4:64 --out dora`
    - `rsverify train lora --ranks 4:64 --lr 1e-3 --steps 100 --out run`
    - `rsverify train lora --rule "alpha/sqrt(r)" --lr 1e-4,3e-4,1e-3 --text notes.txt --device cuda`
    """
    from rich.console import Console
    from rich.live import Live

    from rsverify.definitions.ranks import parse_ranks
    from rsverify.definitions.targets import as_built
    from rsverify.report.training import summary_table, write_csv, write_figure
    from rsverify.studies.budget import parse_memory
    from rsverify.training import grid, train_stacked
    from rsverify.training.adapters.trainable import as_trainable, usable_ranks
    from rsverify.training.model.device import as_dtype
    from rsverify.training.model.linears import linear_at

    refuse_unwritable(json)
    refuse_device(device)
    refuse_no_workers(workers)
    for name, value in (("seeds", seeds), ("steps", steps)):
        if value < 1:
            raise _refused(f"{name}={value}; expected at least 1")
    target = chosen(adapter, ())
    trained, alpha = as_trainable(target), scaled(target, alpha)
    # A module applies a rule of its own: another one would only be said of it.
    rules: list[Any] = list(rule or (["alpha/r", "alpha/sqrt(r)"] if target.several_rules else [ruled(target, None) or as_built]))
    if not target.several_rules and rule and len(rule) > 1:
        raise _refused(f"rule={rule}: {adapter} is a module as it is built, under one rule of its own; give at most one --rule")
    rates = _numbers(lr)
    grid(ranks or "4:64", rules, lrs=rates, optimizers=optimizer or ["adamw"], adapters=[trained], alpha=alpha)  # refuses before any work
    bound = None if memory is None else parse_memory(memory)
    names = None if targets is None else [name for name in targets.split(",") if name]
    if names == []:
        raise _refused(f"targets={targets!r} names no linear; expected names, endings or globs such as q,v, or no --targets for all")
    console, stages = Console(highlight=False), Stages(__name__)
    with contextlib.ExitStack() as held:
        if not console.is_terminal:  # the table moves on a terminal; anywhere else the stages are lines on stderr
            held.enter_context(log_on_stderr("train"))
        stages(f"load {model or 'the base'}", 0, 1)
        task = _task(model, text, names, tokens=tokens, sequences=sequences, device=device, dtype=as_dtype(dtype), seed=seed)
        linears = {name: linear_at(task.model, name) for name in task.targets}
        usable, missing = usable_ranks(trained, linears, parse_ranks(ranks or "4:64"), alpha=alpha)
        for rank, reason in missing.items():
            console.print(f"rank {rank} is left out: {reason}", markup=False)
        wanted = grid(
            usable, rules, seeds=range(seed, seed + seeds), lrs=rates, optimizers=optimizer or ["adamw"], adapters=[trained], alpha=alpha
        )
        held.enter_context(one_writer(writable_folder(out)))
        console.print(f"{len(wanted)} configurations of {adapter} on {task.name}, {steps} steps, {len(task.targets)} linears")
        with Live(console=console, refresh_per_second=2, transient=True) as live:

            def report(run: StackedRun) -> None:
                live.update(summary_table(run.to_json(), steps=steps))
                stages("steps of all configurations", sum(run.steps), len(wanted) * steps)

            stages("steps of all configurations", 0, len(wanted) * steps)
            run = train_stacked(
                task, wanted, steps=steps, memory=bound, workers=workers, checkpoint=out / "checkpoint.safetensors", report=report
            )
        data = {"task": task.name, "hashes": dict(task.hashes), "seed": seed, "asked_steps": steps, **run.to_json()}
        console.print(summary_table(data, steps=steps))
        for c, step in zip(run.configurations, run.diverged, strict=True):
            if step is not None:
                console.print(f"diverged at step {step}: {c.text}")
        for note in run.notes:
            console.print(f"note: {note}")
        write_json(data, out / "run.json")
        write_csv(data, out / "curves.csv")
        write_figure(data, out / "curves.png")
        write_json(data, json)
        if not run.complete:
            complain(f"interrupted after {min(run.steps)} of {steps} steps; the same command goes on from there (out={str(out)!r})")
            return 130
        console.print(f"run.json, curves.csv and curves.png are in {out}")
        return 0


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise _refused(f"lr={text!r}; expected numbers, e.g. 1e-3 or 1e-4,1e-3") from None


def _refused(message: str) -> Exception:
    from rsverify.errors import InputError

    return InputError(message)


def _task(
    model: str | None, text: Path | None, targets: list[str] | None, *, tokens: int, sequences: int, device: str, dtype: Any, seed: int
) -> Any:
    if model is not None:
        from rsverify.interop.transformers import task_from_pretrained

        if text is None:
            raise _refused(f"model={model!r} needs --text, a file to train on")
        return task_from_pretrained(
            model, text=text, targets=targets or "all-linear", tokens=tokens, sequences=sequences, device=device, dtype=dtype
        )
    from rsverify.training import fine_tuning_task
    from rsverify.training.model.transformer import LINEARS

    data = None
    if text is not None:
        data = read_bytes(text, name="text", expected="a text file", limit=TEXT_LIMIT)
    return fine_tuning_task(tokens=tokens, sequences=sequences, device=device, dtype=dtype, text=data, targets=tuple(targets or LINEARS))
