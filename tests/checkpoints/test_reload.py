import json
import re
import subprocess
import sys

import pytest
import torch
import transformers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

import headcount as hc
from cases import (
    CLASSIFIERS,
    batch,
    bert,
    keep_decision,
    llama,
    with_cross_attention,
    write_model,
)
from headcount.zoo.decisions import nested
from headcount.zoo.tiny import tiny_model

KEEPS = {
    "none": torch.zeros(12),
    "an empty layer": torch.arange(12) % 8 >= 4,
    "uneven": torch.tensor([1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0]),
    "even": torch.arange(12) % 2,
    "all": torch.ones(12),
}


def fresh_process(code: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.compat
@pytest.mark.parametrize("keep", KEEPS.values(), ids=KEEPS)
@pytest.mark.parametrize("case", CLASSIFIERS, ids=str)
def test_saved_equals_reloaded_bit_for_bit(tmp_path, case, keep):
    model = case.make()
    small = hc.cut(model, keep_decision(model, keep.bool()))
    small.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    state = small.state_dict()
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(v, state[k]) for k, v in again.state_dict().items())
    assert torch.equal(again(**batch()).logits, small(**batch()).logits)
    assert type(again) is type(small)
    assert hc.units(again) == hc.units(small)
    assert hc.units(again).num("head") == keep.sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_dtype_survives(tmp_path, dtype):
    model = bert().to(dtype)
    small = hc.cut(model, keep_decision(model, KEEPS["uneven"].bool()))
    small.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.dtype == dtype
    assert torch.equal(again(**batch()).logits, small(**batch()).logits)


def test_shards_survive(tmp_path):
    model = bert()
    small = hc.cut(model, keep_decision(model, KEEPS["uneven"].bool()))
    small.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(again(**batch()).logits, small(**batch()).logits)


def test_the_encoder_alone_loads_from_a_classifier(tmp_path):
    model = bert()
    small = hc.cut(model, keep_decision(model, KEEPS["an empty layer"].bool()))
    small.save_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path)
    expected = small.bert(**batch()).last_hidden_state
    assert torch.equal(encoder(**batch()).last_hidden_state, expected)


@pytest.mark.parametrize(
    "decoder", ["BertLMHeadModel", "RobertaForCausalLM", "MegatronBertForCausalLM"]
)
def test_encoder_and_decoder_with_cross_attention_reload(tmp_path, decoder):
    model = with_cross_attention(decoder)
    small = hc.cut(model, hc.decide(model, hc.Random(seed=3), hc.Budget(heads=14)))
    small.save_pretrained(tmp_path)
    again = transformers.EncoderDecoderModel.from_pretrained(tmp_path)
    inputs = {**batch(), "decoder_input_ids": batch()["input_ids"]}
    assert torch.equal(again(**inputs).logits, small(**inputs).logits)


def test_a_reloaded_model_saves_again_and_can_be_cut_again(tmp_path):
    model = bert()
    hc.cut(model, keep_decision(model, KEEPS["uneven"].bool())).save_pretrained(tmp_path / "a")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "a")
    smaller = hc.cut(again, hc.decide(again, hc.Random(seed=0), hc.Budget(heads=2)))
    smaller.save_pretrained(tmp_path / "b")
    last = AutoModelForSequenceClassification.from_pretrained(tmp_path / "b")
    assert hc.units(last).num("head") == 2
    assert torch.equal(last(**batch()).logits, smaller(**batch()).logits)
    again.save_pretrained(tmp_path / "c")
    same = AutoModelForSequenceClassification.from_pretrained(tmp_path / "c")
    assert torch.equal(same(**batch()).logits, again(**batch()).logits)


def test_a_configuration_alone_builds_the_uneven_shape(tmp_path):
    model = bert()
    small = hc.cut(model, keep_decision(model, KEEPS["uneven"].bool()))
    built = AutoModelForSequenceClassification.from_config(small.config)
    shapes = {name: value.shape for name, value in small.state_dict().items()}
    assert {name: value.shape for name, value in built.state_dict().items()} == shapes


def test_the_folder_says_what_it_is_and_what_it_needs(tmp_path):
    model = bert()
    decision = keep_decision(model, KEEPS["uneven"].bool())
    hc.cut(model, decision).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "import headcount" in card
    assert "6 of 12" in card
    assert hc.Decision.load(tmp_path / "decision.json") == decision


def test_an_even_result_of_a_class_that_reads_a_head_size_is_a_stock_checkpoint(tmp_path):
    model = CLASSIFIERS[-1].make()
    assert model.config.model_type == "jina_embeddings_v3"
    small = hc.cut(model, keep_decision(model, KEEPS["even"].bool()))
    small.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["num_attention_heads"], config["head_dim"]) == (2, 6)
    assert "per_layer_config" not in config
    assert "import headcount" not in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_model_that_headcount_did_not_cut_is_left_alone(tmp_path):
    bert().save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def damaged(folder, name, value):
    """A saved model whose configuration says something else in one place."""
    model = bert()
    hc.cut(model, keep_decision(model, KEEPS["uneven"].bool())).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["headcount"][name] = value
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("count", [9, [0, 4]])
def test_a_damaged_configuration_is_refused(tmp_path, count):
    folder = damaged(tmp_path, "left", {"encoder.layer.1.attention.self": {"head": count}})
    message = re.escape(
        "config.json: headcount.left['encoder.layer.1.attention.self'].head is "
        f"{count}, not a part of the 4 of the dense model."
    )
    with pytest.raises(hc.CheckpointError, match=message):
        AutoModelForSequenceClassification.from_pretrained(folder)


@pytest.mark.parametrize("found", [1, 4, None])
def test_a_configuration_of_another_format_is_refused(tmp_path, found):
    message = f"config.json has headcount format {found}; this version of headcount reads 3"
    with pytest.raises(hc.CheckpointError, match=message):
        AutoModelForSequenceClassification.from_pretrained(damaged(tmp_path, "format", found))


def test_the_configuration_says_what_is_left_and_guards_it_in_the_file(tmp_path):
    model = bert()
    small = hc.cut(model, keep_decision(model, KEEPS["uneven"].bool()))
    left = {
        f"encoder.layer.{layer}.attention.self": {"head": count}
        for layer, count in enumerate((2, 3, 1))
    }
    small.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    for config in (small.config, again.config):
        assert config.headcount == {"format": 3, "left": left}
        assert not config.is_heterogeneous
        assert config.num_attention_heads == 4
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert saved["headcount"] == {"format": 3, "left": left}
    (guard,) = saved["per_layer_config"]
    assert "import headcount before from_pretrained" in guard
    assert not hasattr(model.config, "headcount")


def test_a_folder_of_an_older_version_still_loads(tmp_path):
    """Its ``per_layer_config`` said again, layer by layer, what the mark says."""
    model = bert()
    small = hc.cut(model, keep_decision(model, KEEPS["uneven"].bool()))
    small.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["headcount"]["per_layer_keys"] = True
    config["per_layer_config"] = {
        str(layer): {"num_attention_heads": count} for layer, count in enumerate((2, 3, 1))
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(again(**batch()).logits, small(**batch()).logits)


def several_kinds(make, **amounts):
    """A model cut by a budget of several kinds."""
    model = make()
    return hc.cut(model, hc.decide(model, hc.Random(seed=4), hc.Budget(**amounts)))


@pytest.mark.parametrize(
    ("make", "auto", "amounts"),
    [
        (bert, AutoModelForSequenceClassification, {"heads": 5, "neurons": 30}),
        (
            bert,
            AutoModelForSequenceClassification,
            {"sublayers": {"self": 1, "ffn": 2}, "heads": 3},
        ),
        (bert, AutoModelForSequenceClassification, {"layers": 2, "heads": 7, "neurons": 0}),
        (llama, AutoModelForCausalLM, {"kv_heads": 5, "neurons": 30}),
        (llama, AutoModelForCausalLM, {"heads": 12, "neurons": 1}),
        (llama, AutoModelForCausalLM, {"layers": 2, "kv_heads": 3}),
        (llama, AutoModelForCausalLM, {"sublayers": {"self": 2, "ffn": 1}, "kv_heads": 0}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_several_kinds_reload_bit_for_bit(tmp_path, make, auto, amounts):
    small = several_kinds(make, **amounts)
    small.save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path)
    assert hc.units(again) == hc.units(small)
    assert again.state_dict().keys() == small.state_dict().keys()
    assert torch.equal(again(**batch()).logits, small(**batch()).logits)
    assert hc.Decision.load(tmp_path / "decision.json").num_kept == sum(
        sum(amount.values()) if isinstance(amount, dict) else amount for amount in amounts.values()
    )


@pytest.mark.parametrize(
    "amounts",
    [
        {"kv_heads": 2},
        {"neurons": 8},
        {"kv_heads": 2, "neurons": 8},
        {"heads": 4},
        {"heads": 4, "neurons": 8},
    ],
    ids=str,
)
def test_an_even_llama_is_a_stock_checkpoint(tmp_path, amounts):
    small = several_kinds(llama, **amounts, scope="layer")
    assert not hasattr(small.config, "headcount")
    small.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert "per_layer_config" not in config
    assert "headcount" not in config
    groups = amounts.get("kv_heads", 4)
    assert config["num_key_value_heads"] == groups
    assert config["num_attention_heads"] == amounts.get("heads", 2 * groups)
    assert (config["head_dim"], config["intermediate_size"]) == (4, amounts.get("neurons", 24))
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(**batch()).logits, small(**batch()).logits)


@pytest.mark.compat
@pytest.mark.slow
def test_without_headcount_an_uneven_folder_fails_loudly_and_an_even_one_loads(tmp_path):
    for name, case in (("uneven", CLASSIFIERS[0]), ("even", CLASSIFIERS[-1])):
        model = case.make()
        small = hc.cut(model, keep_decision(model, KEEPS[name].bool()))
        small.save_pretrained(tmp_path / name)
        torch.save(small(**batch()).logits, tmp_path / f"{name}.pt")
    torch.save(batch(), tmp_path / "batch.pt")
    load = f"""
import torch
from transformers import AutoModelForSequenceClassification as Auto
folder = {str(tmp_path)!r}
def check(name):
    model = Auto.from_pretrained(folder + '/' + name)
    logits = model(**torch.load(folder + '/batch.pt')).logits
    assert torch.equal(logits, torch.load(folder + '/' + name + '.pt'))
check('even')
try:
    check('uneven')
except Exception as error:
    print('refused:', error)
import headcount
check('uneven')
print('with headcount: the same bits')
"""
    done = fresh_process(load)
    assert done.returncode == 0, done.stderr
    assert "this model was pruned by headcount" in done.stdout
    assert "with headcount: the same bits" in done.stdout


def test_pipeline_gives_the_same_numbers(tmp_path):
    write_model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = bert()
    small = hc.cut(model, keep_decision(model, KEEPS["uneven"].bool()))
    small.save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    pipe = transformers.pipeline("text-classification", model=str(tmp_path / "small"), top_k=None)
    (found,) = pipe(["a dog runs"], function_to_apply="none")
    with torch.inference_mode():  # as the pipeline does; other kernels run with gradients
        logits = small(**tokenizer("a dog runs", return_tensors="pt")).logits[0]
    expected = dict(zip(small.config.id2label.values(), logits.tolist(), strict=True))
    assert {entry["label"]: entry["score"] for entry in found} == expected


def test_two_towers_of_one_configuration_keep_different_heads(tmp_path):
    model = tiny_model("video_llava")
    units = hc.units(model).only("head")
    keep = {site.key: torch.arange(site.num_units) % 2 > 0 for site in units.sites}
    for site in units.sites:
        if "image_tower" in site.module:
            keep[site.key] = torch.arange(site.num_units) > 0
    small = hc.cut(model, nested(units, keep))
    small.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert hc.units(again) == hc.units(small)
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in small.state_dict().items())
