"""`rsverify transfer`: alpha and learning rate at another rank."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from rsverify.cli.options import Json, Name, OneOptimizer, Seed, Whole, refuse_unwritable, write_json
from rsverify.errors import InputError


def transfer(
    *,
    rank: Annotated[str, Parameter(allow_leading_hyphen=True, help="The rank in use.")],
    alpha: Annotated[float, Parameter(allow_leading_hyphen=True, help="The alpha in use.")],
    lr: Annotated[float, Parameter(allow_leading_hyphen=True, help="The learning rate in use.")],
    to_rank: Annotated[str, Parameter(allow_leading_hyphen=True, help="The rank to change to.")],
    rule: Annotated[str | None, Parameter(allow_leading_hyphen=True, help="The rule in use; by default the adapter's own.")] = None,
    to_rule: Annotated[str | None, Parameter(allow_leading_hyphen=True, help="The rule to change to; by default the same.")] = None,
    optimizer: OneOptimizer = "adamw",
    adapter: Name = "lora",
    d_in: Annotated[Whole | None, Parameter(help="Width of the input of the adapted layers.")] = None,
    d_out: Annotated[Whole | None, Parameter(help="Width of their output.")] = None,
    width: Annotated[Whole | None, Parameter(help="Both widths, for square layers; by default ranks are far below the widths.")] = None,
    model: Annotated[str | None, Parameter(help="Folder or hub name of a model whose linears give the widths.")] = None,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Give alpha and learning rate at another rank, with the reason.

    With widths (--width, --d-in with --d-out, or --model) by the formulas at finite rank, or by a simulation where theory has bounds only:
    the seed is its. Without, for ranks far below the widths.

    For example:

    - `rsverify transfer --rank 16 --alpha 32 --lr 2e-4 --to-rank 128 --optimizer adamw`
    - `rsverify transfer --rank 16 --alpha 32 --lr 2e-4 --to-rank 128 --rule "alpha/r" --to-rule "alpha/sqrt(r)"`
    - `rsverify transfer --rank 16 --alpha 32 --lr 2e-2 --to-rank 128 --optimizer muon-torch --width 512`
    """
    from rich.console import Console

    from rsverify.records import to_json
    from rsverify.studies.transfer import transfer as study

    refuse_unwritable(json)
    found = study(
        adapter, rank=_one(rank), alpha=alpha, lr=lr, to_rank=_one(to_rank), rule=rule, to_rule=to_rule, optimizer=optimizer, d_in=d_in,
        d_out=d_out, width=width, model=model, seed=seed,
    )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(text, markup=False)

    say(f"{found.adapter}, {found.optimizer}: from r = {found.rank}, {found.rule} to r = {found.to_rank}, {found.to_rule}")
    say(f"alpha  {found.to_alpha:.6g}")
    if found.to_lr is not None:
        say(f"lr     {found.to_lr:.4g}" + ("" if found.to_lr_range is None else "  (keeps the first step)"))
    if found.to_lr_range is not None:
        say(f"range  lr from {found.to_lr_range[0]:.4g} to {found.to_lr_range[1]:.4g}: theory does not say more")
    if found.alpha_at_same_lr is not None:
        say(f"or     keep lr = {found.lr:.4g} and set alpha = {found.alpha_at_same_lr:.6g} (same first step)")
    if found.alpha_at_same_lr_range is not None:
        lowest, highest = found.alpha_at_same_lr_range
        say(f"or     keep lr = {found.lr:.4g} and set alpha between {lowest:.6g} and {highest:.6g}: by the regime")
    say("why")
    for reason in found.reasons:
        say(f"  - {reason}")
    say("mind")
    for caveat in found.caveats:
        say(f"  - {caveat}")
    write_json(to_json(found), json)
    return 0


def _one(text: str) -> int:
    """A single rank; read as a whole number here, because a fraction would be rounded on the way in."""
    from rsverify.definitions.ranks import parse_ranks

    found = parse_ranks(text)
    if len(found) != 1:
        raise InputError(f"rank={text!r}; expected one whole number, e.g. 16")
    return found[0]
