"""Stacked training against PEFT, configuration after configuration, on one Llama-like model: the same losses, the time of each.

Run: python benchmarks/training.py CASE [--adapter dora] [--repeats 5] [--seeds-timed 3]
with CASE one of d64-t64, d128-t64, d128-t512, d256-t512, alone on the machine; `all` runs every case. 36 configurations: ranks 4..128,
alpha/r and alpha/sqrt(r), three draws; AdamW, ten steps, loss, gradient norm and adapter output read at every step on both sides.
Wall-clock medians of alternating repeats. What is timed of PEFT is its training loops alone; of the stack it is everything from the
loaded model to the finished records, the mean of as many runs as last a second.

The same configurations are trained without the kernels and with every build of them that this processor runs and a compiler here makes
(--builds to choose), in turns with the rest: one that loses at a case is not to be used there (`native/choice.py`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from _adapters import OTHERS
from _adapters import train_with_peft as train_other_with_peft
from _evidence import line, write

from rsverify.interop.transformers import causal_task
from rsverify.training import Configuration, Task, grid, train_stacked, transformer_task
from rsverify.training.adapters.contraction import draw_factors
from rsverify.training.adapters.route import route, step_cost
from rsverify.training.model.text import Corpus, source
from rsverify.training.model.transformer import Transformer, TransformerConfig
from rsverify.training.native import build as native
from rsverify.training.native import choice, compiler, library
from rsverify.training.native.build import Build

STEPS, LR, VOCABULARY = 10, 1e-3, 256
RANKS, RULES = "4:128", ("alpha/r", "alpha/sqrt(r)")
HEADS, KV_HEADS = 4, 2
SHORT = 1.0
"""Seconds that a repeat of the stack lasts at least, in several runs if need be: PEFT's lasts longer in every case, and a tenth of a second
more or less for the machine's other work is nothing to it."""
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
OURS = dict(zip(LINEARS, ("attention.q", "attention.k", "attention.v", "attention.o"), strict=False)) | {
    "gate_proj": "feed_forward.gate", "up_proj": "feed_forward.up", "down_proj": "feed_forward.down",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    layers: int
    d: int
    tokens: int
    asked: float
    of_floor: float
    of_floor_wide: float

    @property
    def ffn(self) -> int:
        return 8 * self.d // 3 // 8 * 8


CASES = {
    "d64-t64": Case(2, 64, 64, 14.0, 0.65, 0.70),
    "d128-t64": Case(2, 128, 64, 7.5, 0.75, 0.78),
    "d128-t512": Case(2, 128, 512, 3.3, 0.85, 0.85),
    "d256-t512": Case(4, 256, 512, 2.4, 0.95, 0.95),
}
"""What is asked: times as fast as PEFT, and shares of the floor on vectors of 32 bytes and of 64."""


def llama(case: Case) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=case.d, intermediate_size=case.ffn, num_hidden_layers=case.layers, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, max_position_embeddings=case.tokens, tie_word_embeddings=True, rms_norm_eps=1e-6,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def compact(case: Case, other: Any) -> Transformer:
    """The project's transformer with the weights of the Llama: the same function."""
    model = Transformer(TransformerConfig(case.d, case.layers, HEADS, KV_HEADS, case.ffn, VOCABULARY))
    weights = {"embedding.weight": other.model.embed_tokens.weight, "norm.weight": other.model.norm.weight}
    for i, block in enumerate(other.model.layers):
        for theirs, ours in OURS.items():
            part = block.self_attn if ours.startswith("attention") else block.mlp
            weights[f"blocks.{i}.{ours}.weight"] = getattr(part, theirs).weight
        weights[f"blocks.{i}.attention_norm.weight"] = block.input_layernorm.weight
        weights[f"blocks.{i}.feed_forward_norm.weight"] = block.post_attention_layernorm.weight
    model.load_state_dict({name: value.detach().clone() for name, value in weights.items()})
    return model


def our_name(theirs: str) -> str:
    """blocks.0.attention.q for model.layers.0.self_attn.q_proj."""
    parts = theirs.split(".")
    return f"blocks.{parts[2]}.{OURS[parts[-1]]}"


def wanted(seeds: int) -> list[Configuration]:
    return grid(RANKS, RULES, seeds=range(seeds), lrs=[LR])


def train_with_peft(model: Any, task: Task, c: Configuration) -> tuple[float, list[float]]:
    """Seconds of the training loop of one configuration under PEFT and torch.optim.AdamW, and its losses."""
    net = peft.get_peft_model(model, peft.LoraConfig(r=c.rank, lora_alpha=c.alpha, use_rslora="sqrt" in c.rule, target_modules=LINEARS))
    squares: list[torch.Tensor] = []
    for name, module in net.base_model.model.named_modules():
        if hasattr(module, "lora_A"):
            A = draw_factors(
                c.adapter, rank=c.rank, d_in=module.in_features, d_out=module.out_features, seed=c.seed, draw=c.draw, layer=our_name(name)
            )["A"]
            module.lora_A["default"].weight.data.copy_(torch.from_numpy(A))
            module.lora_B["default"].register_forward_hook(lambda mod, args, out: squares.append(out.detach().square().sum()))
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=c.lr)
    batches, losses, log = [task.batch(step, c.data) for step in range(STEPS)], [], []
    began = time.perf_counter()
    for batch in batches:
        squares.clear()
        loss = task.losses(net, batch, 1)[0]
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in trained])
        log.append((loss.item(), norm.item(), c.gamma * torch.stack(squares).sum().sqrt().item()))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(log[-1][0])
    spent = time.perf_counter() - began
    net.unload()
    return spent, losses


def stacked(task: Task, configurations: list[Configuration], *, at_least: float = 0.0) -> tuple[float, np.ndarray]:
    """Seconds of a whole run, the mean of as many as last `at_least` seconds, and its losses (configurations, steps).

    A run is let go before the next, as PEFT's model is: held, it would keep memory that the next one must then have paged in anew.
    """
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < at_least:
        loss = train_stacked(task, configurations, steps=STEPS).loss
        count += 1
    return (time.perf_counter() - began) / count, loss


def operations(case: Case, configurations: list[Configuration], task: Task) -> float:
    """Floating-point operations of a run by our own count: linears by their routes with probes, attention's causal half, the head.

    The first step is shared: one pass of the base, and the products with A of every configuration.
    """
    n, d = case.tokens, case.d
    shapes = [tuple(task.model.get_submodule(name).weight.shape) for name in task.targets]
    attention = case.layers * 7 * n * n * d  # causal half of two products forward and five back, 2 n n d each
    rest = attention + 4 * n * d * VOCABULARY
    linears = 0.0
    for c in configurations:
        for k, (d_out, d_in) in enumerate(shapes):
            way = route(n=n, d_in=d_in, d_out=d_out, r=c.rank, probe=True)
            linears += step_cost(route=way, n=n, d_in=d_in, d_out=d_out, r=c.rank, probe=True, back=k > 2)
    first = sum(2 * c.rank * d_out * d_in for c in configurations for d_out, d_in in shapes)
    return (STEPS - 1) * (linears + len(configurations) * rest) + first + rest


def builds(wanted: str) -> list[Build]:
    """Those of a text, `all` for each processor by each compiler, that run here."""
    makers = [name for name in ("gcc", "clang") if compiler.find(name)]
    texts = [f"{maker}:{name}" for maker in makers for name in native.PROCESSORS] if wanted == "all" else wanted.split(",")
    named = [one for text in texts if text and (one := Build.parse(text)) is not None]
    return [one for one in named if native.kernels(torch.float32, build=one) is not None]


@contextmanager
def serving(text: str) -> Iterator[None]:
    """With a build of the kernels, also where `native/choice.py` would not take it; `off` for none."""
    before, rule = os.environ.get(native.SWITCH), choice.is_faster
    os.environ[native.SWITCH] = text
    choice.is_faster = lambda *given, **named: True
    try:
        yield
    finally:
        choice.is_faster = rule
        if before is None:
            del os.environ[native.SWITCH]
        else:
            os.environ[native.SWITCH] = before


def processor() -> dict[str, Any]:
    """What runs here, as far as the system tells."""
    rows = library.processor().splitlines()
    names = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    there = library.of_processor()
    return {"name": next(iter(names), "not told"), "features": sorted(there & {"sse4_2", "avx", "avx2", "fma", "avx512f", "asimd", "sve"})}


def gemm_peak() -> float:
    """Operations a second of the best of large square float32 products on all threads."""
    a, b, best = torch.randn(1024, 1024), torch.randn(1024, 1024), 0.0
    for _ in range(8):
        began = time.perf_counter()
        a @ b
        best = max(best, 2 * 1024**3 / (time.perf_counter() - began))
    return best


def peak_memory(name: str, what: str) -> int:
    """Largest sum of proportional set sizes of a process that does one thing and of its workers, in bytes."""
    child = subprocess.Popen([sys.executable, __file__, name, "--only", what])
    most = 0
    while child.poll() is None:
        found = 0
        for pid in [child.pid, *_children(child.pid)]:
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            found += sum(int(row.split()[1]) for row in text.splitlines() if row.startswith("Pss:")) * 1024
        most = max(most, found)
        time.sleep(0.05)
    return most


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def tasks(case: Case) -> tuple[Any, Task, Task]:
    """The Llama, the task on it, and the same task on the compact transformer."""
    model = llama(case)
    text = source("sympy", limit=100_000).train
    theirs = causal_task(model, list(text), targets=LINEARS, tokens=case.tokens)
    ours = transformer_task(compact(case, model), Corpus("sympy", text, b""), tokens=case.tokens)
    same = lambda step, data: {"tokens": theirs.batch(step, data)["input_ids"]}  # noqa: E731 - the very batches of the other side
    return model, theirs, replace(ours, batch=same)


def bench(name: str, *, repeats: int, seeds_timed: int, memory: bool, others: list[Build]) -> bool:
    case = CASES[name]
    model, theirs, ours = tasks(case)
    configurations, more, threads = wanted(3), wanted(6), torch.get_num_threads()
    timed = [c for c in configurations if c.seed < seeds_timed]
    by_threads = {}
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        by_threads[count] = min(train_with_peft(model, theirs, c)[0] for c in (timed[0], timed[0], timed[-1], timed[-1]))
    best = min(by_threads, key=lambda count: by_threads[count])
    torch.set_num_threads(threads)
    stacked(ours, configurations[:2])
    routes = ["off", *(one.text for one in others)]
    times: dict[str, list[float]] = {"peft": [], "stack": [], "unchanged": [], "double": []}
    by_route: dict[str, list[float]] = {route: [] for route in routes}
    peak, apart = 0.0, 0.0
    for _ in range(repeats):
        torch.set_num_threads(best)
        done = [train_with_peft(model, theirs, c) for c in timed]
        times["peft"].append(sum(seconds for seconds, _ in done) * 3 / seeds_timed)
        torch.set_num_threads(threads)
        seconds, found = stacked(ours, configurations, at_least=SHORT)
        times["stack"].append(seconds)
        times["double"].append(stacked(ours, more, at_least=SHORT)[0])  # at once behind what it is held against: the machine drifts
        times["unchanged"].append(stacked(theirs, configurations, at_least=SHORT)[0])
        for text in routes if others else ():
            with serving(text):
                by_route[text].append(stacked(ours, configurations)[0])
        peak = max(peak, gemm_peak())
        for c, (_, losses) in zip(timed, done, strict=True):
            apart = max(apart, float(np.abs(found[configurations.index(c)] / losses - 1).max()))
    median = {key: statistics.median(values) for key, values in times.items()}
    ratios = sorted(a / b for a, b in zip(times["peft"], times["stack"], strict=True))
    ratio = statistics.median(ratios)
    count = operations(case, configurations, ours)
    floor = count / peak
    # float32 through the layers: each of some 3 (d + d_ffn) + tokens summands a layer rounds by 2**-24, at each step anew
    bound = STEPS * case.layers * (3 * (case.d + case.ffn) + case.tokens) * 2.0**-24
    lines = [
        line("PEFT's seconds over the stack's, median of pairs", round(ratio, 2), f"at least {case.asked}", ratio >= case.asked),
        line("largest relative difference of a loss", apart, f"at most {bound:.1e}", apart <= bound),
        line(
            "72 configurations over 36",
            round(median["double"] / median["stack"], 2),
            "at most 2.1",
            median["double"] <= 2.1 * median["stack"],
        ),
    ]
    kernels = native.kernels(torch.float32)
    wide = kernels is not None and kernels.lanes * 4 > 32
    share, asked = floor / median["stack"], case.of_floor_wide if wide else case.of_floor
    lines.append(line("share of the FLOP floor", round(share, 3), f"at least {asked}", share >= asked))
    over_kernels = {}
    for one in others:
        over_kernels[one.text] = statistics.median(off / on for off, on in zip(by_route["off"], by_route[one.text], strict=True))
        lanes = native.kernels(torch.float32, build=one)
        used = lanes is not None and choice.is_faster(d=case.d, lanes=lanes.lanes, itemsize=4)
        what = f"seconds without kernels over seconds with them, {one.text}, median of pairs"
        lines.append(line(what, round(over_kernels[one.text], 2), "at least 1 where it is used", over_kernels[one.text] >= 1 or not used))
    if memory:
        one, all_of_them = peak_memory(name, "peft"), peak_memory(name, "stack")
        lines.append(line("peak memory over one PEFT run's", round(all_of_them / one, 2), "at most 2", all_of_them <= 2 * one))
    facts = {
        "case": vars(case), "seconds": {key: [round(v, 4) for v in values] for key, values in times.items()},
        "ratios": [round(v, 2) for v in ratios], "unchanged_hugging_face_ratio": round(median["peft"] / median["unchanged"], 2),
        "peft_threads": best, "peft_seconds_by_threads": by_threads, "threads": threads, "seeds_timed_of_3": seeds_timed,
        "processor": processor(), "build": chosen.text if (chosen := native.chosen()) else "off",
        "lanes": kernels.lanes if kernels else None,
        "seconds_by_build": {key: [round(v, 4) for v in values] for key, values in by_route.items()},
        "without_over_with": {key: round(v, 2) for key, v in over_kernels.items()},
        "operations": count, "gemm_peak": peak, "floor_seconds": floor, "floor_ratio": round(median["peft"] / floor, 2),
        "share_of_floor": round(floor / median["stack"], 3), "load_average": os.getloadavg(), "cores": os.cpu_count(),
    }  # fmt: skip
    shown = ("seconds", "ratios", "unchanged_hugging_face_ratio", "floor_ratio", "processor", "build", "without_over_with")
    for key in (*shown, "peft_threads", "load_average"):
        print(f"        {key}: {facts[key]}")
    return write(f"training-{name}", lines, **facts)


def bench_other(case_name: str, adapter: str, *, repeats: int, seeds_timed: int) -> bool:
    """36 configurations of another adapter in one pass against PEFT's, one after another; PEFT reads no norms and outputs on its way."""
    case = CASES[case_name]
    model, theirs, ours = tasks(case)
    configurations = grid(RANKS, RULES, seeds=range(3), lrs=[LR], adapters=[adapter])
    timed = [c for c in configurations if c.seed < seeds_timed]
    given = {"name": adapter, "targets": LINEARS, "steps": STEPS, "our_name": our_name}
    threads = torch.get_num_threads()
    by_threads = {}
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        by_threads[count] = min(train_other_with_peft(model, theirs, timed[0], **given)[0] for _ in range(2))
    best = min(by_threads, key=lambda count: by_threads[count])
    torch.set_num_threads(threads)
    stacked(ours, configurations[:2])
    times: dict[str, list[float]] = {"peft": [], "stack": []}
    apart = 0.0
    for _ in range(repeats):
        torch.set_num_threads(best)
        done = [train_other_with_peft(model, theirs, c, **given) for c in timed]
        times["peft"].append(sum(seconds for seconds, _ in done) * 3 / seeds_timed)
        torch.set_num_threads(threads)
        seconds, losses = stacked(ours, configurations, at_least=SHORT)
        times["stack"].append(seconds)
        for c, (_, expected) in zip(timed, done, strict=True):
            apart = max(apart, float(np.abs(losses[configurations.index(c)] / expected - 1).max()))
    ratio = statistics.median(a / b for a, b in zip(times["peft"], times["stack"], strict=True))
    bound = STEPS * case.layers * (3 * (case.d + case.ffn) + case.tokens) * 2.0**-24
    lines = [line(f"{adapter}: PEFT's seconds over the stack's, median of pairs", round(ratio, 2), "at least 3", ratio >= 3)]
    if OTHERS[adapter].names:
        lines.append(line("largest relative difference of a loss", apart, f"at most {bound:.1e}", apart <= bound))
    facts = {
        "case": vars(case), "adapter": adapter, "seconds": {key: [round(v, 4) for v in values] for key, values in times.items()},
        "peft_threads": best, "threads": threads, "seeds_timed_of_3": seeds_timed, "load_average": os.getloadavg(), "cores": os.cpu_count(),
    }  # fmt: skip
    print(f"        seconds: {facts['seconds']}")
    return write(f"training-{case_name}-{adapter}", lines, **facts)


def only(name: str, what: str) -> None:
    """One PEFT run, or the whole stack, in a process of its own: for its peak memory."""
    model, theirs, ours = tasks(CASES[name])
    if what == "peft":
        train_with_peft(model, theirs, wanted(1)[-1])
    else:
        stacked(ours, wanted(3))


def main() -> int:
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=[*CASES, "all"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--seeds-timed", type=int, default=3, choices=[1, 3], help="draws that PEFT really trains; with 1 its time counts thrice"
    )
    parser.add_argument(
        "--adapter", choices=["lora", *OTHERS], default="lora", help="another adapter than LoRA, asked to be 3 times faster"
    )
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--builds", default="all", help='builds to time too, as "native,clang:x86-64-v3"; "all", or "" for none')
    parser.add_argument("--only", choices=["peft", "stack"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        only(given.case, given.only)
        return 0
    names = list(CASES) if given.case == "all" else [given.case]
    if given.adapter != "lora":
        sound = [bench_other(name, given.adapter, repeats=given.repeats, seeds_timed=given.seeds_timed) for name in names]
        return 0 if all(sound) else 1
    others = builds(given.builds)
    options = {"repeats": given.repeats, "seeds_timed": given.seeds_timed, "memory": not given.no_memory, "others": others}
    kept = [bench(name, **options) for name in names]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
