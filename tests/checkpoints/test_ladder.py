"""Each rung of the reload ladder: what is saved is what loads, in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers
from transformers import PreTrainedModel

import headcount as hc
from headcount.architectures.discover import discover
from headcount.checkpoints.autos import auto_class
from headcount.checkpoints.padded import padded
from headcount.checkpoints.written import foreign, write_list
from headcount.zoo.decisions import decision_of, random_decision
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import equal_bits, largest_difference
from headcount.zoo.tiny import tiny_model

TYPES = ("bert", "llama", "t5", "bart", "gpt2", "vit")
RUNGS = ("import", "standalone", "padded")
CODE = "modeling_headcount.py"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One folder, and how the fresh process loads it."""

    name: str
    model: PreTrainedModel
    folder: Path
    trust: bool = False
    auto: str = ""
    refused: bool = False

    def written(self) -> dict[str, object]:
        """The entry that the fresh process reads; inputs and outputs stand in a file."""
        inputs = dummy_inputs(self.model)
        with torch.no_grad():
            output = next(iter(self.model(**inputs).values()))
        path = self.folder.with_name(f"{self.folder.name}-{self.name.replace('/', '-')}.pt")
        torch.save({"inputs": inputs, "output": output}, path)
        return {
            "name": self.name,
            "folder": str(self.folder),
            "auto": self.auto or auto_class(self.model),
            "trust": self.trust,
            "refused": self.refused,
            "numbers": str(path),
        }


LOADER = """
import importlib.abc, json, sys, torch, transformers


class NoHeadcount(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "headcount":
            raise ModuleNotFoundError("headcount is not installed here")


def verdict(check):
    try:
        auto = getattr(transformers, check["auto"])
        trust = {"trust_remote_code": True} if check["trust"] else {}
        model = auto.from_pretrained(check["folder"], **trust).eval()
        numbers = torch.load(check["numbers"])
        with torch.no_grad():
            output = next(iter(model(**numbers["inputs"]).values()))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if output.dtype != numbers["output"].dtype or output.shape != numbers["output"].shape:
        return f"another type or shape: {output.dtype} {tuple(output.shape)}"
    if torch.equal(output, numbers["output"]):
        return "same bits"
    return f"other numbers, by {float((output - numbers['output']).abs().max())}"


blocker = NoHeadcount()
sys.meta_path.insert(0, blocker)
stages = json.load(open(sys.argv[1]))
found = {check["name"]: verdict(check) for check in stages["without"]}
if stages["with"]:
    sys.meta_path.remove(blocker)
    import headcount
    found |= {check["name"]: verdict(check) for check in stages["with"]}
print("VERDICTS", json.dumps(found))
"""


def verdicts(place: Path, *, without: list[Check], given: list[Check]) -> dict[str, str]:
    """Load every folder in one fresh process, first without headcount, then with it."""
    stages = {
        "without": [check.written() for check in without],
        "with": [check.written() for check in given],
    }
    (place / "stages.json").write_text(json.dumps(stages), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(place / "stages.json")],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=os.environ
        | {
            "MKL_CBWR": "COMPATIBLE",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": str(place / "modules"),
        },
    )
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("VERDICTS "))
    return json.loads(line.removeprefix("VERDICTS "))


def uneven(kind: str, *, kinds: tuple[str, ...] = ("kv_head", "head", "neuron"), seed: int = 0):
    """A cut tiny model, one attention and one feed-forward network of it without units."""
    model = tiny_model(kind)
    units = hc.units(model)
    known = [name for name in kinds if name in units.kinds]
    return hc.cut(model, random_decision(units.only(*known), seed=seed, empty=True))


def first_half(kind: str, *kinds: str) -> PreTrainedModel:
    """Cut to the first half of the units of some kinds, which is the same in all layers."""
    model = tiny_model(kind)
    units = hc.units(model, *kinds)
    keeps = []
    for site in units.sites:
        share = site.num_units // site.num_groups
        keeps.append((torch.arange(share) < share // 2).repeat(site.num_groups))
    return hc.cut(model, decision_of(units, keeps))


STOCK = {
    "mistral, groups": ("mistral", "kv_head"),
    "mistral, heads": ("mistral", "head"),
    "mistral, rows": ("mistral", "neuron"),
    "llama, groups and rows": ("llama", "kv_head", "neuron"),
    "t5, heads": ("t5", "head"),
    "t5, rows": ("t5", "neuron"),
    "bert, rows": ("bert", "neuron"),
    "vit, rows": ("vit", "neuron"),
    "gpt2, rows": ("gpt2", "neuron"),
}
"""Shapes that the stock class builds from its configuration."""


def test_an_even_shape_without_a_key_for_it_needs_headcount(tmp_path):
    assert hc.save(first_half("bert", "head"), tmp_path / "bert").rung == "import"


@pytest.fixture(scope="module")
def stock(tmp_path_factory) -> dict[str, tuple[hc.Saved, PreTrainedModel]]:
    place = tmp_path_factory.mktemp("stock")
    small = {name: first_half(*spec) for name, spec in STOCK.items()}
    return {
        name: (hc.save(model, place / name.replace(", ", "-").replace(" ", "-")), model)
        for name, model in small.items()
    }


@pytest.mark.parametrize("name", STOCK)
def test_an_even_shape_is_a_stock_checkpoint(stock, name):
    saved, _ = stock[name]
    assert saved.rung == "stock"
    config = json.loads((saved.folder / "config.json").read_text(encoding="utf-8"))
    assert not {"headcount", "per_layer_config", "auto_map"} & config.keys()
    assert "import headcount" not in saved.how_to_load


REMOVED = ("bert sublayer", "bert layer head", "llama layer neuron")
"""Types and the kinds that go; a whole layer alone leaves a stock shape."""


@pytest.fixture(scope="module")
def found(stock, tmp_path_factory) -> dict[str, str]:
    """What one fresh process says of every folder."""
    place = tmp_path_factory.mktemp("ladder")
    without = [
        Check(name=f"stock/{name}", model=model, folder=saved.folder)
        for name, (saved, model) in stock.items()
    ]
    given = []
    for kind in TYPES:
        small = uneven(kind)
        by_import = hc.save(small, place / f"{kind}-import").folder
        alone = hc.save(small, place / f"{kind}-standalone", standalone=True).folder
        dense = hc.save(small, place / f"{kind}-padded", padded=True).folder
        without += [
            Check(name=f"refused/{kind}", model=small, folder=by_import, refused=True),
            Check(name=f"standalone/{kind}", model=small, folder=alone, trust=True),
            Check(name=f"padded/{kind}", model=padded(small), folder=dense),
        ]
        given.append(Check(name=f"import/{kind}", model=small, folder=by_import))
        if small.base_model is not small and kind in ("bert", "gpt2", "llama"):
            base = {"model": small.base_model, "auto": "AutoModel"}
            without.append(Check(name=f"base/{kind}", folder=alone, trust=True, **base))
    for name in REMOVED:
        kind, *gone = name.split()
        small = uneven(kind, kinds=tuple(gone))
        gone = "-".join(gone)
        folder = hc.save(small, place / f"{kind}-{gone}").folder
        alone = hc.save(small, place / f"{kind}-{gone}-alone", standalone=True).folder
        without += [
            Check(name=f"refused/{name}", model=small, folder=folder, refused=True),
            Check(name=f"standalone/{name}", model=small, folder=alone, trust=True),
        ]
        given.append(Check(name=f"import/{name}", model=small, folder=folder))
    return verdicts(place, without=without, given=given)


@pytest.mark.parametrize("name", STOCK)
def test_stock_folders_load_without_headcount(found, name):
    assert found[f"stock/{name}"] == "same bits"


@pytest.mark.parametrize("kind", [*TYPES, *REMOVED])
def test_import_folders_load_with_headcount(found, kind):
    assert found[f"import/{kind}"] == "same bits"


@pytest.mark.parametrize("kind", [*TYPES, *REMOVED])
def test_standalone_folders_load_without_headcount(found, kind):
    assert found[f"standalone/{kind}"] == "same bits"


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_the_base_model_loads_from_a_task_model_s_standalone_folder(found, kind):
    assert found[f"base/{kind}"] == "same bits"


@pytest.mark.parametrize("kind", TYPES)
def test_padded_folders_load_without_headcount(found, kind):
    assert found[f"padded/{kind}"] == "same bits"


@pytest.mark.parametrize("kind", [*TYPES, *REMOVED])
def test_without_headcount_an_uneven_folder_fails_loudly(found, kind):
    assert "this model was pruned by headcount" in found[f"refused/{kind}"]


@pytest.mark.compat
@pytest.mark.parametrize("kind", TYPES)
def test_a_padded_model_has_the_dense_shape_and_the_cut_model_s_outputs(kind):
    model = tiny_model(kind).double()
    units = hc.units(model)
    known = [name for name in ("kv_head", "head", "neuron", "sublayer") if name in units.kinds]
    small = hc.cut(model, random_decision(units.only(*known), seed=1, empty=True))
    dense = padded(small)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert {name: p.shape for name, p in dense.named_parameters()} == shapes
    inputs = dummy_inputs(model)
    with torch.no_grad():
        assert largest_difference(dense(**inputs), small(**inputs)) < 1e-10
    assert hc.units(dense).num("head") == units.num("head")


@pytest.mark.compat
@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
def test_the_card_and_the_answer_name_the_rung(tmp_path, kind, rung):
    ways = {} if rung == "import" else {rung: True}
    saved = hc.save(uneven(kind), tmp_path / "small", **ways)
    card = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    assert (saved.rung, saved.folder) == (rung, tmp_path / "small")
    assert ("import headcount" in card) == (rung == "import")
    assert ("trust_remote_code=True" in card) == (rung == "standalone")
    assert ("with zeros for what was removed" in card) == (rung == "padded")
    for text in ("import headcount", "trust_remote_code=True"):
        assert (text in saved.how_to_load) == (text in card)
    assert (saved.folder / CODE).exists() == (rung == "standalone")


def test_the_lines_that_load_are_python(tmp_path):
    small = uneven("bert")
    saved = hc.save(small, tmp_path / "small")
    space: dict[str, object] = {}
    exec(saved.how_to_load, space)
    inputs = dummy_inputs(small)
    with torch.no_grad():
        assert equal_bits(space["model"](**inputs), small(**inputs))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_removed_layers_cannot_be_padded(tmp_path, kind):
    """Heads are gone as well, or the fewer layers would be a stock checkpoint."""
    model = tiny_model(kind)
    units = hc.units(model, "layer", "head")
    keeps = [torch.arange(s.num_units) < s.num_units * s.layer // 2 for s in units.sites]
    keeps = [
        k if s.kind == "head" else k | (s.layer > 0)
        for k, s in zip(keeps, units.sites, strict=True)
    ]
    small = hc.cut(model, decision_of(units, keeps))
    with pytest.raises(hc.CheckpointError, match=r"whole layers were removed; .*standalone=True"):
        hc.save(small, tmp_path / "small", padded=True)
    assert list(tmp_path.iterdir()) == []


def test_two_ways_at_once_are_refused(tmp_path):
    with pytest.raises(hc.CheckpointError, match="give one of them"):
        hc.save(uneven("bert"), tmp_path / "small", padded=True, standalone=True)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_that_one_is_in_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = hc.save(uneven("bert"), ".")
    assert saved.folder == tmp_path.resolve()
    assert (tmp_path / "model.safetensors").is_file()
    assert not [path for path in tmp_path.parent.iterdir() if path.name.startswith(".saving-")]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "small").write_text("mine", encoding="utf-8")
    with pytest.raises(hc.CheckpointError, match="a file is there"):
        hc.save(uneven("bert"), tmp_path / "small")
    assert (tmp_path / "small").read_text(encoding="utf-8") == "mine"


@pytest.mark.compat
def test_an_uncut_model_is_saved_as_transformers_saves_it(tmp_path):
    model = tiny_model("bert")
    assert hc.save(model, tmp_path / "mine", standalone=True).rung == "stock"
    model.save_pretrained(tmp_path / "theirs")
    names = {path.name for path in (tmp_path / "theirs").iterdir()}
    assert {path.name for path in (tmp_path / "mine").iterdir()} == names


WAYS = {"import": {}, "standalone": {"standalone": True}, "padded": {"padded": True}}


@pytest.mark.parametrize("after", WAYS)
@pytest.mark.parametrize("before", WAYS)
def test_nothing_stays_of_an_older_model(tmp_path, before, after):
    small = uneven("bert")
    hc.save(small, tmp_path / "fresh", **WAYS[after])
    hc.save(uneven("bert", seed=5), tmp_path / "again", **WAYS[before])
    hc.save(small, tmp_path / "again", **WAYS[after])
    fresh, again = ({f.name for f in (tmp_path / n).iterdir()} for n in ("fresh", "again"))
    assert again == fresh
    for name in fresh - {"README.md"}:  # its title is the folder's name
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_no_shard_stays_of_an_older_model(tmp_path):
    uneven("bert", seed=5).save_pretrained(tmp_path / "small", max_shard_size="10KB")
    assert len([*(tmp_path / "small").glob("model-*.safetensors")]) > 1
    hc.save(uneven("bert"), tmp_path / "small")
    left = {path.name for path in (tmp_path / "small").glob("*.safetensors*")}
    assert left == {"model.safetensors"}


def test_no_decision_or_card_stays_when_an_uncut_model_follows(tmp_path):
    hc.save(uneven("bert"), tmp_path / "small")
    hc.save(tiny_model("bert"), tmp_path / "small")
    assert not (tmp_path / "small" / "decision.json").exists()
    assert not (tmp_path / "small" / "README.md").exists()


OTHERS = ("README.md", "adapter_model.safetensors", "my.safetensors", "pytorch_model_notes.txt")


def test_files_of_others_stay_beside_a_model(tmp_path):
    uneven("bert", seed=5).save_pretrained(tmp_path / "small")
    for name in OTHERS:
        (tmp_path / "small" / name).write_text("precious", encoding="utf-8")
    for model in (uneven("bert"), tiny_model("bert")):
        hc.save(model, tmp_path / "small")
        for name in OTHERS:
            assert (tmp_path / "small" / name).read_text(encoding="utf-8") == "precious"


def test_a_result_that_was_saved_into_is_still_a_result(tmp_path):
    folder = tmp_path / "small"
    hc.save(uneven("bert", seed=5), folder)
    write_list(folder)
    hc.save(uneven("bert"), folder)
    assert foreign(folder) == []
    hc.save(tiny_model("bert"), folder)
    assert foreign(folder) == []


@pytest.mark.parametrize("older", [True, False])
def test_a_save_that_fails_leaves_nothing_half_written(tmp_path, monkeypatch, older):
    if older:
        hc.save(uneven("bert", seed=5), tmp_path / "small")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fails(self, folder, **kwargs):
        del self, kwargs
        Path(folder).mkdir(parents=True)
        (Path(folder) / "config.json").write_text("{", encoding="utf-8")
        raise OSError("no space left on device")

    small = uneven("bert")
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", fails)
    with pytest.raises(OSError, match="no space left"):
        hc.save(small, tmp_path / "small")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["small"] * older


def test_an_interrupted_run_beside_the_folder_is_left_alone(tmp_path):
    """`hc.prune` works in a folder of this name; it holds checkpoints to go on from."""
    run = tmp_path / "small.partial"
    run.mkdir()
    (run / "run.json").write_text("{}", encoding="utf-8")
    hc.save(uneven("bert"), tmp_path / "small")
    assert (run / "run.json").exists()


@pytest.mark.parametrize("kind", ["bert", "llama", "t5", "gpt2"])
@pytest.mark.parametrize("rung", ["import", "standalone"])
def test_a_reloaded_model_is_saved_again_at_the_same_rung(tmp_path, kind, rung):
    small = uneven(kind)
    hc.save(small, tmp_path / "a")
    auto = getattr(transformers, auto_class(small))
    again = auto.from_pretrained(tmp_path / "a")
    assert hc.save(again, tmp_path / "b", **WAYS[rung]).rung == rung
    state = auto.from_pretrained(tmp_path / "b", trust_remote_code=False).state_dict()
    assert all(torch.equal(state[name], value) for name, value in small.state_dict().items())


def test_the_counts_survive(tmp_path):
    small = uneven("bert", kinds=("head", "neuron", "sublayer", "layer"))
    hc.save(small, tmp_path / "small")
    auto = getattr(transformers, auto_class(small))
    again = auto.from_pretrained(tmp_path / "small")
    counts = [{s.key: s.num_units for s in discover(each).sites} for each in (small, again)]
    assert counts[0] == counts[1]
