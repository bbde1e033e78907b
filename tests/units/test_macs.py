"""MACs of units beside those that PyTorch's flop counter counts."""

import pytest
import torch
import transformers

import headcount as hc
from headcount.errors import BudgetError
from headcount.reports.measure import macs
from headcount.units.costs import macs_of
from headcount.zoo.checks import Subject
from headcount.zoo.counted import counted
from headcount.zoo.tiny import tiny_model


def subject_of(name):
    model = tiny_model(name)
    return Subject(single=model, model=model, reference=None, units=hc.units(model))


@pytest.mark.parametrize(
    "name",
    [
        "bert",
        "llama[num_key_value_heads=1,head_dim=16]",
        "deepseek_v3",  # queries and keys are wider than values
        "deepseek_v2[q_lora_rank=None]",
        "mixtral",  # two of four experts
        "llama4_text",  # all of them
        "qwen2_moe",  # and one for all tokens
        "hrm_text",  # layers that run twice and six times
        "albert[num_hidden_groups=2]",
        "t5",
        "olmo2",  # queries and keys are normalised over all heads
        "data2vec-vision",  # it calls sdpa, whatever is asked for
        "bert[is_decoder=True,add_cross_attention=True]",
    ],
)
def test_what_a_unit_costs_is_what_removing_it_saves(name):
    outcome = counted(subject_of(name))
    assert (outcome.state, outcome.reason) == ("ok", "")


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("swin", "head", "attention stays within windows"),
        ("deberta-v2[relative_attention=True]", "head", "relative positions are multiplied, too"),
        ("wav2vec2-conformer", "head", "relative positions are multiplied, too"),
        ("wav2vec2-conformer[position_embeddings_type=None]", "layer", "a convolution is in it"),
        ("segformer", "head", "keys are of a smaller image"),
        ("bros", "head", "boxes are multiplied, too"),
        ("deepseek_v32", "layer", "products of its own choose the tokens"),
        ("informer", "head", "queries are chosen by samples"),
        ("kosmos-2", "sublayer", "its queries are other tokens than its keys"),
        ("led", "head", "attention stays within windows"),
        ("luke", "head", "words and entities have maps of their own"),
        pytest.param(
            "mobilebert[use_bottleneck_attention=True]",
            "layer",
            "a part of it does not run",
            marks=pytest.mark.filterwarnings("ignore:Initializing zero-element"),
        ),
        ("mobilevit", "head", "an example is several sequences"),
        ("pegasus_x", "neuron", "global tokens run through it, too"),
        ("perceiver", "head", "queries and keys are of two lengths"),
        ("sam_vision_model[use_rel_pos=False]", "head", "attention stays within windows"),
        ("t5gemma2", "head", "keys of the encoder and of the decoder are read at once"),
    ],
)
def test_a_cost_that_is_not_known_is_refused(name, kind, reason):
    units = hc.units(tiny_model(name)).only(kind)
    with pytest.raises(BudgetError, match=reason) as caught:
        macs_of(units, length=8)
    assert "Give a number of units, params or a latency." in str(caught.value)


def test_rows_beside_such_attention_are_counted():
    units = hc.units(tiny_model("deberta-v2[relative_attention=True]"))
    assert macs_of(units.only("neuron"), length=8).whole == 2 * 64 * 2 * 32 * 8


def test_experts_count_whatever_implementation_runs_them():
    model = tiny_model("mixtral")
    ids = {"input_ids": torch.arange(8, 16)[None]}
    eager = macs(model, ids)
    model.set_experts_implementation("batched_mm")
    assert macs(model, ids) == eager
    assert model.config._experts_implementation == "batched_mm"


def test_numbers_of_plain_models_are_the_same():
    config = transformers.BertConfig(num_hidden_layers=1)
    cost = hc.units(transformers.BertModel(config), "head").sites[0].cost
    assert (cost.params, cost.macs_per_token, cost.macs_per_token_pair) == (196800, 196608, 128)
