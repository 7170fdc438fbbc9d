"""`rsverify parity`: the scales that a serving stack applies against those that an adapter was trained with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rsverify.cli.options import Json, Seed, refuse_unwritable, write_json


def parity(
    adapter_dir: Path,
    *,
    scales: Annotated[Path | None, Parameter(help="JSON: scale by module as the stack applies it, or one number for all.")] = None,
    loader: Annotated[
        str | None, Parameter(help="package.module:function of the folder that returns a scale, or an added weight, by module.")
    ] = None,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Say whether a serving stack applies the scale that an adapter was trained with, and name the wrong rule if not.

    ADAPTER_DIR holds adapter_config.json and adapter_model.safetensors of LoRA, LoHa, LoKr, HiRA, VeRA or RandLoRA; use_rslora,
    rank_pattern and alpha_pattern are read. In the scales a module may be named by the end of its name, or by that of the layer that
    the stack fuses it into (qkv_proj, gate_up_proj, ...). A scale may be off by the rounding of bfloat16.

    Exit code 0 = every scale is the trained one, 1 = one is not, 2 = bad input.

    For example:

    - `rsverify parity ./adapter --scales scales.json`
    - `rsverify parity ./adapter --loader my_stack:scales_of`
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from rsverify.conformance.parity import parity as compare
    from rsverify.errors import InputError
    from rsverify.records import to_json
    from rsverify.report.provenance import provenance

    refuse_unwritable(json)
    if (scales is None) == (loader is None):
        raise InputError(
            "give the scales that the stack applies by --scales FILE, or a function that returns them by --loader; "
            + ("neither was given" if scales is None else "both were given")
        )
    given: Any = scales if loader is None else _function(loader)
    found = compare(adapter_dir, given)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    table = Table(title=f"{adapter_dir}, trained under {found.rule}", title_justify="left")
    for heading in ("module", "r", "alpha", "trained", "applied", "applied/trained", "why"):
        table.add_column(heading)
    for row in found.rows:
        applied = "none" if row.applied is None else f"{row.applied:.6g}"
        factor = "" if row.factor is None else f"{row.factor:.4g}"
        style = None if row.holds else "bold red"
        table.add_row(
            escape(row.module), str(row.rank), f"{row.alpha:g}", f"{row.trained:.6g}", applied, factor, escape(row.why), style=style
        )
    console.print(table)
    console.print(escape(found.summary))
    data = {
        "schema": "rsverify/1", "complete": True, "verdict": "holds" if found.holds else "does_not_hold", "adapter": str(adapter_dir),
        "rule": found.rule, "summary": found.summary, "rows": to_json(list(found.rows)),
        "provenance": to_json(provenance(seed=seed, device="cpu")),
    }  # fmt: skip
    write_json(data, json)
    return found.exit_code


def _function(loader: str) -> Any:
    from rsverify.definitions.targets import import_object
    from rsverify.errors import InputError

    found = import_object(loader, argument="loader")
    if not callable(found):
        raise InputError(f"loader={loader!r} is no function; expected one of the adapter's folder that returns scales by module")
    return found
