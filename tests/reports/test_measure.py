"""Measurements: counted numbers equal hand formulas; models are left as they were."""

import json
import platform
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    Data2VecVisionConfig,
    Data2VecVisionModel,
)

import headcount as hc
from cases import clip, llama, with_cross_attention
from headcount.architectures.discover import units
from headcount.errors import CheckpointError, PruningError
from headcount.reports import measure
from headcount.surgery.cut import cut
from headcount.units.decision import Decision
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.tiny import tiny_model

BATCH, LENGTH, WIDTH, HEADS, LAYERS, INNER = 3, 11, 32, 4, 2, 48


def tiny() -> BertModel:
    config = BertConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=LAYERS,
        intermediate_size=INNER,
    )
    return BertModel(config, add_pooling_layer=False)


def batch() -> dict[str, torch.Tensor]:
    ids = torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) % 50
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def keeping(model: nn.Module, keep: list[bool]) -> nn.Module:
    table = units(model, "head")
    return cut(model, Decision.of(table, torch.tensor(keep), torch.zeros(len(table)), {}))


class Named(nn.Module):
    """Writes its name into a log at every pass."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__()
        self.name, self.log = name, log

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.log.append(self.name)
        return x


def test_macs_of_a_dense_bert_equal_the_hand_formula():
    projections = 4 * WIDTH * WIDTH + 2 * WIDTH * INNER
    attention = 2 * LENGTH * WIDTH
    assert measure.macs(tiny(), batch()) == BATCH * LAYERS * LENGTH * (projections + attention)


@pytest.mark.compat
@pytest.mark.parametrize(
    "keep",
    [
        [True] * 8,
        [True, False, True, True, False, False, True, False],
        [False, False, False, True] + [False] * 4,  # a layer without heads
        [False] * 8,
    ],
)
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_removed_heads_cost_what_the_unit_table_says(keep, implementation):
    model = tiny()
    model.set_attn_implementation(implementation)
    cost = units(model, "head").sites[0].cost
    small = keeping(model, keep)
    num_removed = len(keep) - sum(keep)
    saved_macs = measure.macs(model, batch()) - measure.macs(small, batch())
    saved_params = measure.num_params(model) - measure.num_params(small)
    assert saved_macs == num_removed * BATCH * cost.macs(LENGTH)
    assert saved_params == num_removed * cost.params
    assert measure.units_per_layer(small)["head"] == (sum(keep[:4]), sum(keep[4:]))


def test_heads_are_counted_alone_and_tower_by_tower():
    assert measure.units_per_layer(tiny())["head"] == (HEADS,) * LAYERS
    assert measure.units_per_layer(llama())["head"] == (8, 8, 8)
    assert measure.units_per_layer(clip())["head"] == (4, 4, 4, 4)
    assert measure.units_per_layer(with_cross_attention())["head"] == (4, 4, 4, 8, 8, 8)


def test_counting_macs_leaves_the_model_as_it_was():
    model = keeping(tiny(), [True] * 4 + [False] * 4)
    model.train()
    model.encoder.layer[0].eval()
    model.embeddings.requires_grad_(False)
    before = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    measure.macs(model, batch())
    assert [module.training for module in model.modules()] == before
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert model.config._attn_implementation == "sdpa"


def test_counting_macs_restores_each_part_of_a_composite_model():
    inner = tiny()
    inner.set_attn_implementation("eager")
    outer = BertForMaskedLM(tiny().config)
    outer.bert = inner
    measure.macs(outer, batch())
    assert outer.config._attn_implementation == "sdpa"
    assert inner.config._attn_implementation == "eager"


def test_a_part_need_not_know_the_implementation_that_it_is_given_back():
    model = tiny_model("rt_detr")
    model.config._attn_implementation = "sdpa"  # which its backbone does not accept
    before = [c._attn_implementation for c in (model.config, model.config.backbone_config)]
    measure.macs(model, dummy_inputs(model, batch=1))
    after = [c._attn_implementation for c in (model.config, model.config.backbone_config)]
    assert before == after == ["sdpa", "sdpa"]


def test_sdpa_that_cannot_be_switched_off_is_counted():
    config = {"image_size": 8, "patch_size": 2, "hidden_size": 8, "num_hidden_layers": 1}
    config = Data2VecVisionConfig(**config, num_attention_heads=2, intermediate_size=16)
    pixels = {"pixel_values": torch.zeros(1, 3, 8, 8)}
    counts = []
    for implementation in ("eager", "sdpa"):
        config._attn_implementation = implementation
        counts.append(measure.macs(Data2VecVisionModel(config), pixels))
    assert counts[0] == counts[1] > 2 * 17 * 17 * 8


def test_a_failing_pass_leaves_the_model_as_it_was():
    model = tiny().train()
    with pytest.raises(ValueError, match="input_ids"):
        measure.macs(model, {})
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_shared_parameters_count_once():
    layer = nn.Linear(3, 3, bias=False)
    assert measure.num_params(nn.Sequential(layer, layer)) == 9


def test_models_take_turns():
    log: list[str] = []
    models = {"a": Named("a", log), "b": Named("b", log)}
    samples = measure.latency_s(models, {"x": torch.zeros(1)}, num_runs=3, warmup=2)
    assert log == ["a", "b"] * 5
    assert {name: len(taken) for name, taken in samples.items()} == {"a": 3, "b": 3}
    assert all(sample > 0 for taken in samples.values() for sample in taken)
    assert models["a"].training
    assert models["b"].training


@pytest.mark.parametrize(("num_runs", "warmup"), [(0, 1), (1, -1)])
def test_nothing_to_time_is_refused(num_runs, warmup):
    model = {"a": nn.Identity()}
    with pytest.raises(PruningError, match=r"Give num_runs 1 or more and warmup 0 or more\."):
        measure.latency_s(model, {"input": torch.zeros(1)}, num_runs=num_runs, warmup=warmup)


def test_no_model_to_time_is_refused():
    with pytest.raises(PruningError, match=r"there is no model\. Give at least one\."):
        measure.latency_s({}, {"input": torch.zeros(1)}, num_runs=1, warmup=0)


def test_summary_of_one_sample_and_of_many():
    assert measure.summary([2.0]) == measure.Summary(
        median=2.0, lower_quartile=2.0, upper_quartile=2.0
    )
    assert measure.summary([4.0, 1.0, 3.0, 2.0]) == measure.Summary(
        median=2.5, lower_quartile=1.75, upper_quartile=3.25
    )


def test_summary_of_nothing_is_refused():
    with pytest.raises(PruningError, match="there is no sample"):
        measure.summary([])


@pytest.mark.compat
@pytest.mark.parametrize("shard_size", ["50GB", "20kB"])
def test_weight_bytes_adds_all_shards(tmp_path, shard_size):
    model = tiny()
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    (tmp_path / "session.safetensors").write_bytes(b"not weights")
    files = [f for f in tmp_path.iterdir() if f.name.startswith("model") and f.suffix != ".json"]
    assert (len(files) > 1) == (shard_size == "20kB")
    assert measure.weight_bytes(tmp_path) == sum(len(file.read_bytes()) for file in files)
    assert measure.weight_bytes(str(tmp_path)) >= 4 * measure.num_params(model)


def test_weight_bytes_of_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no model\*\.safetensors there"):
        measure.weight_bytes(tmp_path)


def test_environment_names_versions_and_machine_only():
    found = measure.environment()
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
    assert found["num_threads"] == torch.get_num_threads()
    assert found["num_cores"] >= 1
    assert found["processor"]
    versions = {"python", "headcount", "code", "torch", "transformers", "accelerate"}
    assert len(found["code"]) == 12
    machine = {"platform", "processor", "num_cores", "num_threads", "gpu"}
    assert found.keys() == versions | machine
    text = json.dumps(found)
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text


def test_units_of_every_kind_are_counted_layer_by_layer():
    model = tiny()
    small = hc.cut(
        model, hc.decide(model, hc.Random(), hc.Budget(neurons=5, sublayers={"self": 1}))
    )
    counts = measure.units_per_layer(small)
    assert (sum(counts["neuron"]), sum(counts["sublayer"])) == (5, LAYERS + 1)
    assert counts["kv_head"] == (0,) * LAYERS
    one = hc.cut(model, hc.decide(model, hc.Random(), hc.Budget(layers=1)))
    assert measure.units_per_layer(one) == {
        kind: own[:1] for kind, own in measure.units_per_layer(model).items()
    }
