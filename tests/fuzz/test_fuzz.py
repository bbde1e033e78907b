"""Files of strangers, files after a crash, and wrong calls: own errors, soon, in little memory."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from typer.testing import CliRunner

import headcount as hc
from cases import TINY, bert, write_model, write_pairs
from fuzz.mutate import (
    NO_FILES,
    Many,
    bytes_mutation,
    guard,
    json_mutations,
    put_in_place,
    raw_end,
    remove,
)
from fuzz.wrong_calls import wrong_calls
from headcount.arena.comparison import Comparison
from headcount.arena.grid import Grid, Settings, digest
from headcount.arena.output import Output, write_json
from headcount.arena.result import KeptSite, Result
from headcount.checkpoints.workspace import workspace
from headcount.cli import main as cli
from headcount.cli.methods import METHODS
from headcount.reports.report import Report, Row, report_of
from headcount.runs.run import dense_run, read_run
from headcount.zoo.records import Outcome, Record
from headcount.zoo.survey import Survey

pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries, about what they are given


@pytest.fixture(scope="module", autouse=True)
def quiet():
    transformers.utils.logging.disable_progress_bar()
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    yield
    transformers.utils.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def cut_folder(tmp_path_factory):
    """A model with uneven layers, of which one is gone."""
    model = transformers.BertModel(transformers.BertConfig(**TINY))
    decision = hc.decide(model, hc.Random(seed=2), hc.Budget(layers=2, heads=5))
    folder = tmp_path_factory.mktemp("cut") / "model"
    hc.cut(model, decision).save_pretrained(folder)
    return folder


def mutated(path: Path, read: Callable[[], object], number: int, seed: int, inside: str = ""):
    """How reading ends for each of some mutations of a file, where it ends raw."""
    content = path.read_bytes()
    ends = []
    for index, other in enumerate(json_mutations(content.decode(), number, seed, inside)):
        path.write_bytes(other)
        end = raw_end(read)
        if end:
            ends.append(f"{path.name} {index}: {end} <- {other[:400]!r}")
    for way in () if inside else NO_FILES:
        put_in_place(path, way)
        end = raw_end(read)
        if end:
            ends.append(f"{path.name} {way}: {end}")
        remove(path)
    path.write_bytes(content)
    return ends


@Many
def test_wrong_calls(share):
    calls = wrong_calls()[:: round(1 / share)]
    ends = [f"{said} -> {end}" for said, call in calls if (end := raw_end(call, fails=True))]
    assert ends == []
    assert len(calls) >= 100 * share


@Many
def test_marks(cut_folder, tmp_path, share):
    shutil.copytree(cut_folder, tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    body = json.loads(config.read_text(encoding="utf-8"))
    body.pop("per_layer_config", None)
    config.write_text(json.dumps(body), encoding="utf-8")
    load = lambda: transformers.AutoModel.from_pretrained(config.parent)  # noqa: E731
    assert mutated(config, load, round(150 * share), 0, "headcount") == []


@Many
def test_decisions(cut_folder, tmp_path, share):
    path = tmp_path / "decision.json"
    shutil.copy(cut_folder / "decision.json", path)
    model = transformers.BertModel(transformers.BertConfig(**TINY))
    cut = lambda: hc.cut(model, hc.Decision.load(path))  # noqa: E731
    assert mutated(path, cut, round(100 * share), 1) == []


@Many
def test_reports(tmp_path, share):
    row = Row(name="dense", units={"head": (4, 4)}, num_params=9, quality=0.5)
    known = {"task": "nli", "metric": "accuracy", "budget": {"heads": 3}, "method": {}, "seed": 0}
    more = {"num_steps": 1, "batch_size": 2, "length": 3, "attn_implementation": "sdpa"}
    Report(**known, **more, rows=(row,), environment={"torch": "2"}).save(tmp_path)
    read = lambda: report_of(tmp_path)  # noqa: E731
    assert mutated(tmp_path / "report.json", read, round(80 * share), 2) == []


@Many
def test_tables_of_latencies(tmp_path, share):
    units = hc.units(bert())
    curves = tuple(
        hc.Curve(
            kind=kind,
            modules=tuple(site.module for site in units.only(kind).sites),
            counts=(0, 1, units.only(kind).sites[0].num_units),
            costs_ns=(0, 40_000, 90_000),
        )
        for kind in ("head", "neuron")
    )
    path = tmp_path / "latency.json"
    hc.LatencyTable(whole_ns=10**6, curves=curves, batch=8, length=64).save(path)

    def use():
        hc.Budget(latency=0.8, costs=hc.LatencyTable.load(path)).quotas(units)

    assert mutated(path, use, round(80 * share), 3) == []


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from training.test_restore import trainer

    folder = tmp_path_factory.mktemp("run")
    trainer(folder, steps=2).train()
    return folder / "checkpoint-2"


@Many
def test_checkpoints_of_a_run(checkpoint, tmp_path, share):
    from training.test_restore import trainer

    copy = tmp_path / "checkpoint-2"
    shutil.copytree(checkpoint, copy)
    made = trainer(tmp_path)
    train = lambda: made.train(str(copy))  # noqa: E731
    ends = []
    for seed, name in enumerate(("headcount.json", "trainer_state.json")):
        ends += mutated(copy / name, train, round(20 * share), 10 + seed)
    choose = random.Random(12)
    names = ("model.safetensors", "headcount.safetensors", "optimizer.pt", "rng_state.pth")
    for name in (*names, "scheduler.pt") if share == 1 else names[:2]:
        content = (copy / name).read_bytes()
        for _ in range(round(10 * share)):
            (copy / name).write_bytes(bytes_mutation(content, choose))
            end = raw_end(train)
            ends += [f"{name}: {end}"] if end else []
        (copy / name).write_bytes(content)
    assert ends == []


@Many
def test_results_of_arms_and_settings_of_runs(cut_folder, tmp_path, share):
    shutil.copytree(cut_folder, tmp_path / "dense" / "model")
    result = {"quality": 0.5, "train_s": 1.0, "num_steps": 3, "correct": "0110"}
    (tmp_path / "dense" / "result.json").write_text(json.dumps(result), encoding="utf-8")
    spec = dense_run("bert", hc.Recipe())
    read = lambda: read_run(spec, tmp_path / "dense")  # noqa: E731
    ends = mutated(tmp_path / "dense" / "result.json", read, round(40 * share), 20)
    ends += mutated(tmp_path / "dense" / "model" / "decision.json", read, round(20 * share), 21)
    work = tmp_path / "small.partial"
    settings = {"model": "bert", "budget": {"heads": 3}, "train": [["a.tsv", "0" * 64]]}
    shutil.copytree(tmp_path / "dense", work / "dense")

    def resume():
        with workspace(tmp_path / "small", settings, resume=True):
            raise hc.PruningError("read")

    (work / "run.json").write_text(json.dumps(settings), encoding="utf-8")
    ends += mutated(work / "run.json", resume, round(30 * share), 22)
    assert ends == []


def comparison(folder: Path) -> tuple[Output, list]:
    """A comparison of three cells that are finished, and one that failed."""
    data = [write_pairs(folder / name, 8) for name in ("train.tsv", "eval.tsv")]
    settings = Settings(model="bert", train=(data[0],), eval=(data[1],))
    grid = Grid(settings=settings, methods={"random": hc.Random()}, amounts=(6, 3), seeds=(0,))
    output = Output.of(folder / "runs", grid)
    output.open()
    cells = list(grid.cells)
    for cell in cells:
        output.folder(cell).mkdir()
        write_json(output.folder(cell) / "cell.json", output.spec(cell))
    output.note_failure(cells[-1], "KeyError: 'a'")
    for cell in cells[:-1]:
        bits = "1" * (cell.amount or 8)
        result = Result(
            method=cell.method,
            amount=cell.amount,
            seed=cell.seed,
            described={"name": cell.method},
            units={"head": (len(bits) // 2, len(bits) - len(bits) // 2)},
            sites=tuple(
                KeptSite(
                    module=f"layer.{i}",
                    kind="head",
                    layer=str(i),
                    num=own.count("1"),
                    whole=4,
                    keep=own.ljust(4, "0"),
                )
                for i, own in enumerate((bits[:4], bits[4:]))
            ),
            quality=0.5,
            num_steps=3,
            train_s=1.0,
            digest=digest(output.spec(cell)),
            environment={},
            correct="0101",
        )
        write_json(output.folder(cell) / "result.json", result.plain())
    latency = {"ratio": 0.9, "ratio_quartiles": [0.8, 1.0], "median_s": 0.01}
    shapes = {"4 4": {**latency, "ratio": 1.0}, "3 3": latency}
    write_json(output.path / "latency.json", {"timing": {}, "environment": {}, "shapes": shapes})
    return output, cells


@Many
def test_cells_and_results_of_a_comparison(tmp_path, share):
    output, cells = comparison(tmp_path)

    def use():
        found = Comparison.read(output.path)
        if share < 1 or found.results:
            found._summary(), found.sheets
        again = Output.read(output.path, METHODS)
        for cell in cells:
            again.is_gone(cell)
            again.failure(cell)
            again.obstacle(cell, adopt=False)
        output.refuse()

    use()
    ends = []
    files = ["grid.json", "latency.json"]
    files += [f"{cells[1].name}/{name}" for name in ("cell.json", "result.json")]
    files += [f"{cells[-1].name}/error.json"]
    for seed, name in enumerate(files):
        ends += mutated(output.path / name, use, round(40 * share), 30 + seed)
    assert ends == []


@Many
def test_flags_from_yaml(tmp_path, share):
    path = tmp_path / "run.yaml"
    lines = ["heads: 7", "method: random", "min-per-layer: 1", "epochs: 1.5", "train: [a, b]"]
    choose = random.Random(40)
    aliases = "\n".join(f"a{i}: &a{i} [*a{i - 1},*a{i - 1}]" for i in range(1, 30))
    values = (
        "null",
        "{a: 1}",
        "[[1]]",
        ".nan",
        "1e999",
        "&a [*a]",
        "2026-99-99",
        "!!set {1}",
        "-1",
    )
    values += ("!!python/name:os.system", "'" + "x" * 9000 + "'", "1:2:3:4", "0x" + "f" * 6000)
    texts = [f"a0: &a0 [1]\n{aliases}", "heads: 1\nheads: 2", "? [a]\n: 1", "[" * 50_000]
    for index in range(round(80 * share)):
        if index % 3 == 0:
            texts.append(bytes_mutation("\n".join(lines).encode(), choose).decode("latin-1"))
        else:
            name = choose.choice(
                ["heads", "epochs", "train", "resume", "method", "output", "config"]
            )
            texts.append("\n".join([*lines, f"{name}_: 1"][: choose.randrange(5)]))
            texts[-1] += f"\n{name}: {choose.choice(values)}"
    ends = []
    for text in texts:
        path.write_text(text, encoding="latin-1", errors="replace")
        flags = ["prune", str(tmp_path / "none"), "--train", "a.tsv", "--eval", "b.tsv"]
        with guard():
            done = CliRunner().invoke(cli.app, [*flags, "--config", str(path)])
        if done.exit_code not in (0, 1, 2) or not isinstance(done.exception, SystemExit):
            ends.append(f"{done.exception!r} <- {text[:200]!r}")
    assert ends == []


@Many
def test_records_of_coverage(tmp_path, share):
    survey = Survey(work=tmp_path)
    record = Record(
        model_type="bert",
        attention=("A",),
        units={"head": 4},
        checks={"built": Outcome(state="ok", seconds=0.5)},
    )
    body = {"key": survey._key(), "limit_s": 0, **record.to_dict()}
    (tmp_path / "bert.json").write_text(json.dumps(body), encoding="utf-8")
    assert survey._done("bert") == record
    read = lambda: survey._done("bert")  # noqa: E731
    assert mutated(tmp_path / "bert.json", read, round(40 * share), 50) == []


def test_the_tokenizer_of_a_model_in_a_folder_is_not_asked_for_consent(tmp_path):
    """Nothing is asked on standard input where a folder wants to run code of its own."""
    folder = Path(write_model(tmp_path / "model"))
    body = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    body |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(body), encoding="utf-8")
    (folder / "code.py").write_text("raise SystemExit('run')", encoding="utf-8")
    with pytest.raises(hc.PruningError):
        hc.evaluate(folder, eval=[write_pairs(tmp_path / "dev.tsv", 8)])
