"""What a pass of a decoder costs the kernels, in memory and in time."""

from __future__ import annotations

from rsverify.training.model.decoder import Decoder
from rsverify.training.native import cost


def bytes_each(model: Decoder, *, rows: int, length: int, rank: int) -> int:
    """What one configuration keeps between its two passes: norms, heads, probabilities, feed-forward, the logits on top, and what each
    adapter of at most that rank makes on its way. Each worker needs room for a packed weight besides, of the head as a rule."""
    q, kv = model.heads * model.head_width, model.kv_heads * model.head_width
    keys = (length + 2 * model.lanes) / 2  # the causal half, in panels of two vectors of queries
    layer = rows * (4 * model.d + 2 * q + 2 * kv + 3 * model.ffn + model.heads * keys)
    shapes = [linear.weight.shape for block in model.blocks for linear in block.linears.values()]
    adapters = sum(
        d_out * d_in if cost.route(n=rows, d_in=d_in, d_out=d_out, r=rank, lanes=model.lanes) == "merged" else rows * rank
        for d_out, d_in in shapes
    )
    pass_by = rows * (model.vocabulary + 5 * model.d + q + 2 * max(model.ffn, q, 2 * kv))
    return int(model.embedding.element_size() * (len(model.blocks) * layer + pass_by + adapters))


def other_cost(model: Decoder, *, rows: int, length: int) -> float:
    """Time of a step of one configuration outside the linears, in the operations of `cost.times`: measured at d 64 and 128, 64
    and 512 tokens."""
    scores = 250 * model.heads * rows * length * (1 + 64 / length)
    return len(model.blocks) * (scores + rows * (300 * model.d + 195 * model.ffn)) + rows * model.vocabulary * (4 * model.d + 80)
