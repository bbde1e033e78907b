"""Without headcount nothing loads wrong, in whatever way a folder came about."""

import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import accelerate
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel, modeling_utils

import headcount as hc
from cases import bert, llama
from headcount.units import decision as decision_module
from headcount.units.decision import Decision
from headcount.zoo.decisions import random_decision
from headcount.zoo.tiny import tiny_model

AUTO = {"bert": "AutoModelForSequenceClassification", "llama": "AutoModelForCausalLM"}
LOADER = """
import json, sys, torch, transformers
transformers.logging.set_verbosity_error()
for folder, auto in json.loads(sys.argv[1]).items():
    try:
        getattr(transformers, auto).from_pretrained(folder)
        print(folder, "LOADS")
    except Exception as error:
        print(folder, " ".join(str(error).split()))
assert "headcount" not in sys.modules
"""


def without_headcount(folders: dict[Path, str]) -> dict[str, str]:
    """What a process without headcount says of each folder."""
    asked = json.dumps({str(folder): auto for folder, auto in folders.items()})
    done = subprocess.run(
        [sys.executable, "-c", LOADER, asked],
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def cut(make, **amounts):
    model = make()
    return hc.cut(model, hc.decide(model, hc.Random(seed=1), hc.Budget(**amounts)))


def by_accelerate(small, folder):
    accelerate.Accelerator(cpu=True).save_model(small, folder)
    small.config.save_pretrained(folder)


def configuration_again(small, folder):
    """Weights of the one folder, the configuration loaded and saved again."""
    small.save_pretrained(folder)
    AutoConfig.from_pretrained(folder).save_pretrained(folder)


def by_json(small, folder):
    small.save_pretrained(folder)
    body = json.dumps(small.config.to_dict(), default=str)
    (folder / "config.json").write_text(body, encoding="utf-8")


def standalone_again(small, folder):
    hc.save(small, folder / "first", standalone=True)
    own = AutoModel.from_pretrained(folder / "first", trust_remote_code=True)
    own.save_pretrained(folder)


WAYS = {
    "save_pretrained": lambda small, folder: small.save_pretrained(folder),
    "hc.save": hc.save,
    "standalone": lambda small, folder: hc.save(small, folder, standalone=True),
    "standalone_again": standalone_again,
    "accelerate": by_accelerate,
    "configuration_again": configuration_again,
    "json": by_json,
}
CUTS = {
    "bert-heads": ("bert", bert, {"heads": 5}),
    "bert-modules": ("bert", bert, {"sublayers": 4}),
    "llama-layers-heads": ("llama", llama, {"layers": 2, "heads": 8}),
    "llama-groups": ("llama", llama, {"kv_heads": 3}),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("guard")
    folders = {}
    for name, (kind, make, amounts) in CUTS.items():
        small = cut(make, **amounts)
        for way, write in WAYS.items():
            folder = place / f"{name}-{way}"
            write(small, folder)
            folders[folder] = "AutoModel" if way == "standalone_again" else AUTO[kind]
    found = without_headcount(folders)
    return {folder.name: found[str(folder)] for folder in folders}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CUTS)
def test_transformers_alone_refuses_the_folder_and_names_headcount(verdicts, name, way):
    assert "pruned by headcount" in verdicts[f"{name}-{way}"]
    assert "import headcount before from_pretrained" in verdicts[f"{name}-{way}"]


@pytest.mark.slow
def test_a_tower_of_a_cut_model_is_refused_alone_as_well(tmp_path):
    model = tiny_model("clip")
    units = hc.units(model)
    small = hc.cut(model, random_decision(units.only("sublayer"), seed=0, empty=False))
    small.save_pretrained(tmp_path)
    found = without_headcount({tmp_path: "CLIPVisionModel"})
    assert "pruned by headcount" in found[str(tmp_path)]


@pytest.mark.parametrize("most_in_text", [4096, 3])
@pytest.mark.parametrize("method", ["save_pretrained", "push_to_hub"])
def test_what_is_uploaded_is_complete(tmp_path, monkeypatch, method, most_in_text):
    """The network is replaced by a copy of the folder as it is at that moment."""
    monkeypatch.setattr(decision_module, "MOST_IN_TEXT", most_in_text)
    hub = types.SimpleNamespace(create_repo=lambda r, **_: types.SimpleNamespace(repo_id=r))
    card = types.SimpleNamespace(
        save=lambda path: Path(path).write_text(
            "This model card has been automatically generated.", encoding="utf-8"
        )
    )
    for module in (modeling_utils, transformers.utils.hub):
        monkeypatch.setattr(module, "hf_api", lambda *_, **__: hub)
        monkeypatch.setattr(module, "create_and_tag_model_card", lambda *_, **__: card)
    monkeypatch.setattr(
        transformers.PreTrainedModel,
        "_upload_modified_files",
        lambda _, folder, *__, **___: shutil.copytree(folder, tmp_path / "hub"),
    )
    small = cut(llama, heads=8)
    if method == "push_to_hub":
        small.push_to_hub("me/small")
    else:
        small.save_pretrained(tmp_path / "small", push_to_hub=True, repo_id="me/small")
    assert len([*(tmp_path / "hub").glob("decision.json*")]) == 1 + (most_in_text == 3)
    assert Decision.load(tmp_path / "hub" / "decision.json").num("head") == 8
    assert "import headcount" in (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    config = json.loads((tmp_path / "hub" / "config.json").read_text(encoding="utf-8"))
    assert "import headcount" in next(iter(config["per_layer_config"]))
    assert not {"_upload_modified_files"} & vars(small).keys()


def test_a_guard_whose_mark_got_lost_is_refused(tmp_path):
    cut(bert, heads=5).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    del config["headcount"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(hc.CheckpointError, match=r"its key .headcount., .* is gone or damaged"):
        AutoModel.from_pretrained(tmp_path)


def test_an_attribute_of_the_same_name_belongs_to_somebody_else(tmp_path):
    model = bert()
    model.config.headcount = 12
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert again.config.headcount == 12
    with pytest.raises(hc.SurgeryError, match="has an attribute 'headcount' of its own"):
        hc.cut(again, hc.decide(again, hc.Random(seed=0), hc.Budget(heads=3)))


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "bart", "distilbert", "vit"])
def test_a_model_with_fewer_layers_is_a_stock_checkpoint(tmp_path, kind):
    model = tiny_model(kind)
    units = hc.units(model, "layer")
    keep = torch.tensor([s.module.rpartition(".")[2] == "0" for s in units.sites])
    small = hc.cut(model, hc.Decision.of(units, keep, keep.double(), {}))
    saved = hc.save(small, tmp_path / "small")
    assert saved.rung == "stock"
    assert not hasattr(small.config, "headcount")
    again = type(small).from_pretrained(saved.folder)
    assert [s.shape for s in again.parameters()] == [s.shape for s in small.parameters()]
    assert hc.units(again).num("layer") == int(keep.sum())


def test_removed_layers_of_a_model_that_reads_its_layers_by_number_stay_where_they_are(tmp_path):
    config = transformers.GPT2Config(n_layer=3, n_head=2, n_embd=8, vocab_size=20)
    config.scale_attn_by_inverse_layer_idx = True
    model = transformers.GPT2LMHeadModel(config).eval()
    units = hc.units(model, "layer")
    keep = torch.tensor([False, True, True])
    decision = hc.Decision.of(units, keep, keep.double(), {})
    ids = torch.arange(2, 9)[None]
    with torch.no_grad(), hc.masked(model, decision):
        want = model(ids).logits
    small = hc.cut(model, decision)
    small.save_pretrained(tmp_path)
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(small(ids).logits, want, atol=1e-6)
        assert torch.equal(again(ids).logits, small(ids).logits)


def test_cutting_in_place_leaves_a_shared_configuration_alone():
    config = bert().config
    teacher, student = (transformers.BertModel(config) for _ in range(2))
    hc.cut(student, hc.decide(student, hc.Random(seed=0), hc.Budget(heads=3)), in_place=True)
    assert not hasattr(teacher.config, "headcount")
    assert hc.units(transformers.BertModel(config)).num("head") == hc.units(teacher).num("head")
    assert student.encoder.layer[0].attention.self.config is student.config


def test_a_construction_that_fails_leaves_the_configuration_as_it_was(tmp_path):
    cut(llama, heads=8).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    with pytest.raises(ImportError):
        AutoModel.from_config(config, attn_implementation="flash_attention_2")
    built = AutoModel.from_config(config, attn_implementation="sdpa")
    assert hc.units(built).num("head") == 8


@pytest.mark.parametrize("in_place", [True, False])
def test_a_tower_that_was_cut_alone_is_saved_with_the_whole(tmp_path, in_place):
    model = tiny_model("llava").eval()
    tower = model.model.vision_tower
    decision = hc.decide(tower, hc.Random(seed=0), hc.Budget(heads=3))
    model.model.vision_tower = hc.cut(tower, decision, in_place=in_place)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert {n: p.shape for n, p in again.named_parameters()} == {
        n: p.shape for n, p in model.named_parameters()
    }


def test_a_part_whose_place_in_the_mark_is_unknown_is_refused(tmp_path):
    cut(bert, sublayers=4).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    left = config["headcount"]["left"]
    config["headcount"]["left"] = {f"text_model.{path}": each for path, each in left.items()}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(hc.CheckpointError, match="the class is another than the one it was saved"):
        AutoModel.from_pretrained(tmp_path)


@pytest.mark.slow
def test_a_tower_whose_account_stands_in_the_mark_of_the_whole_is_refused_alone(tmp_path):
    model = tiny_model("groupvit")  # its vision tower is no model of its own inside of it
    units = hc.units(model).only("layer")
    tower = "vision_model.encoder.stages.2.layers.1"
    keep = torch.tensor([site.module != tower for site in units.sites])
    small = hc.cut(model, Decision.of(units, keep, torch.zeros(len(keep)), {}))
    small.save_pretrained(tmp_path)
    assert type(small).from_pretrained(tmp_path).num_parameters() == small.num_parameters()
    with pytest.raises(hc.CheckpointError, match="is that of a part of a model"):
        transformers.GroupViTVisionModel.from_pretrained(tmp_path)
    shutil.copy(tmp_path / "config.json", tmp_path / "before.json")
    AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path)
    before, after = (
        json.loads((tmp_path / name).read_text()) for name in ("before.json", "config.json")
    )
    assert before == after
    told = without_headcount({tmp_path: "GroupViTVisionModel"})
    assert "headcount" in told[str(tmp_path)]
