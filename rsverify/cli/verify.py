"""`rsverify verify`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from rsverify.cli.options import Alpha, Json, Name, Ranks, Seed, as_called, refuse_unwritable, write_json
from rsverify.cli.stages import log_on_stderr, shown
from rsverify.definitions.devices import refuse_device
from rsverify.errors import InputError


def verify(
    *,
    adapter: Name = "lora",
    declared: Annotated[
        str | None, Parameter(help="Name of the declaration that a module is held against; theory then speaks of it.")
    ] = None,
    rule: Annotated[
        tuple[str, ...], Parameter(allow_leading_hyphen=True, help="Scaling rule in r and alpha; may be given several times.")
    ] = (),
    optimizer: Annotated[tuple[str, ...], Parameter(help="Optimizer; may be given several times.")] = (),
    ranks: Ranks = None,
    model: Annotated[
        str | None, Parameter(help="Folder or hub name of a Hugging Face model to judge instead of the built-in base.")
    ] = None,
    config: Annotated[Path | None, Parameter(help="adapter_config.json with LoRA settings in PEFT's format.")] = None,
    text: Annotated[Path | None, Parameter(help="Text file that the model's loss is taken on.")] = None,
    expect: Annotated[
        Literal["stable", "collapses", "explodes"] | None,
        Parameter(help="Ask another question: is the quantity so, under every rule and optimizer given?"),
    ] = None,
    quantity: Annotated[str, Parameter(help="What --expect judges.")] = "update",
    quick: Annotated[bool, Parameter(help="No training, no torch, a few seconds.")] = False,
    out: Annotated[Path, Parameter(help="Folder for results.json and report.html.")] = Path("rsverify-out"),
    device: Annotated[str, Parameter(help="cpu or cuda.")] = "cpu",
    alpha: Alpha | None = None,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Say whether theory, simulation and a real transformer agree on how an adapter behaves as its rank grows.

    Exit code 0 = holds, 1 = does not hold, 2 = bad input, 3 = inconclusive.

    For example:

    - `rsverify verify --quick`
    - `rsverify verify --rule "alpha/r" --optimizer sgd --expect stable`
    - `rsverify verify --adapter vera --rule "alpha/r**0.75" --quick`
    - `rsverify verify --adapter my_package.adapters:build --declared lora`
    - `rsverify verify --adapter "peft:lora?use_rslora=true"`
    - `rsverify verify --model ./my-model --config adapter_config.json --text notes.txt`
    """
    from rich.console import Console

    from rsverify.report.page import write_page
    from rsverify.report.results import with_command, write_results
    from rsverify.report.terminal import show
    from rsverify.studies import verify as study

    refuse_unwritable(json)
    refuse_device(device)
    problem, adapter_used, rules, alpha_used = None, adapter, rule or None, alpha
    if model is not None:
        if config is None or text is None:
            raise InputError("--model needs --config adapter_config.json and --text FILE beside it")
        if quick:
            raise InputError("--model and --quick contradict each other: --quick touches no model")
        from rsverify.studies.own_model import own_model

        with log_on_stderr("verify"):
            own = own_model(model, config=config, text=text, device=device, seed=seed)
        problem, adapter_used = own.problem, own.adapter
        rules = rule or (own.rule,)
        alpha_used = own.alpha if alpha is None else alpha
    elif config is not None or text is not None:
        raise InputError("--config and --text belong to --model; give --model DIR|ID")
    with shown("verify") as progress:
        verdict = study.verify(
            adapter_used, rules, optimizers=optimizer or study.OPTIMIZERS, ranks=ranks, expect=expect, quantity=quantity,
            problem=problem, quick=quick, declared=declared, alpha=alpha_used, seed=seed, device=device, out=out,
            progress=progress,
        )  # fmt: skip
    show(verdict, Console(width=None if sys.stdout.isatty() else 150))
    command = as_called("--out", "--json")
    verdict = with_command(verdict, command)
    write_results(verdict, out / "results.json")
    write_page(verdict, out / "report.html", command=command)
    if json is not None:
        from rsverify.report.results import as_results

        write_json(as_results(verdict), json)
    print(f"Written: {out / 'results.json'}, {out / 'report.html'}", file=sys.stderr)
    return verdict.exit_code
