import pytest
import torch
import transformers
from torch import nn

import headcount as hc
from cases import CLASSIFIERS, bert, llama, with_cross_attention
from headcount.architectures.positions import max_tokens
from headcount.architectures.weights import weight_norms


class MysteryAttention(nn.Module):
    """Attention with named projections of given widths, and what else is asked."""

    def __init__(self, query=24, key=24, value=24, output=24, num_heads=4, **others) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(24, query), nn.Linear(24, key)
        self.v_proj, self.o_proj = nn.Linear(24, value), nn.Linear(output, 24)
        self.num_heads = num_heads
        for name, module in others.items():
            setattr(self, name, module)


@pytest.mark.compat
@pytest.mark.parametrize("case", CLASSIFIERS, ids=str)
def test_every_row_of_the_table_finds_its_heads(case):
    model = case.make()
    whole, table = hc.units(model), hc.units(model, "head")
    assert {"head", "neuron", "sublayer"} <= whole.kinds <= {"head", "neuron", "sublayer", "layer"}
    assert table == whole.only("head")
    assert whole.num("head") == table.num("head") == len(table) == len(list(table)) == 12
    assert table.num("neuron") == 0
    assert [site.layer for site in table.sites] == [0, 1, 2]
    assert {(site.stack, site.branch, site.width) for site in table.sites} == {
        ("encoder", "self", 6)
    }


@pytest.mark.compat
@pytest.mark.parametrize("case", CLASSIFIERS, ids=str)
def test_every_row_of_the_table_finds_its_other_units(case):
    table = hc.units(case.make())
    assert (table.num("neuron"), table.num("sublayer")) == (96, 6)
    assert table.num("layer") == (0 if case.name in ("MegatronBert", "Xmod") else 3)
    rows = table.only("neuron")
    assert [(s.stack, s.branch, s.layer) for s in rows.sites] == [
        ("encoder", "ffn", i) for i in range(3)
    ]
    assert {(s.branch, s.gated) for s in table.only("sublayer").sites} == {
        ("self", "output"),
        ("ffn", "output"),
    }
    assert {(s.branch, s.gated) for s in table.only("layer").sites} <= {("layer", "residual")}


def test_the_cost_of_a_head_of_bert_base():
    """Kwon et al. 2022: 27,262,976 MACs a head at 128 tokens; 196,800 parameters."""
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig())
    cost = hc.units(model, "head").sites[0].cost
    assert (cost.params, cost.macs(128)) == (196_800, 27_262_976)


def test_the_cost_of_all_heads_and_rows_of_bert_base():
    """Kwon et al. 2022, at 128 tokens: 196,608 MACs a row, 11,173,625,856 in all."""
    with torch.device("meta"):
        table = hc.units(transformers.BertModel(transformers.BertConfig()))
    assert {site.cost.macs(128) for site in table.only("neuron").sites} == {196_608}
    heads_and_rows = table.only("head", "neuron")
    assert sum(unit.site.cost.macs(128) for unit in heads_and_rows) == 11_173_625_856


@pytest.mark.parametrize("case", CLASSIFIERS, ids=str)
def test_the_parameters_of_a_head_are_those_that_go(case):
    model = case.make()
    cost = hc.units(model, "head").sites[0].cost
    small = hc.cut(model, hc.decide(model, hc.Random(seed=0), hc.Budget(heads=2, scope="layer")))
    gone = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small.parameters())
    assert gone == 6 * cost.params


@pytest.mark.parametrize(
    ("make", "budget", "kind", "num_gone"),
    [
        (bert, hc.Budget(neurons=20), "neuron", 76),
        (bert, hc.Budget(layers=1), "layer", 2),
        (llama, hc.Budget(kv_heads=3, min_per_layer=1), "kv_head", 9),
        (llama, hc.Budget(neurons=20), "neuron", 52),
        (llama, hc.Budget(layers=1), "layer", 2),
    ],
)
def test_the_parameters_of_any_unit_are_those_that_go(make, budget, kind, num_gone):
    model = make()
    cost = hc.units(model, kind).sites[0].cost
    small = hc.cut(model, hc.decide(model, hc.Random(seed=0), budget))
    gone = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small.parameters())
    assert gone == num_gone * cost.params


def test_self_and_cross_attention_are_told_apart():
    places = [(s.stack, s.branch, s.layer) for s in hc.units(with_cross_attention(), "head").sites]
    assert places[:3] == [("encoder", "self", layer) for layer in range(3)]
    assert places[3:5] == [("decoder", "self", 0), ("decoder", "cross", 0)]


def test_query_heads_that_share_key_value_heads_are_told_as_groups():
    table = hc.units(llama())
    assert [(s.num_units, s.width) for s in table.only("kv_head").sites] == [(4, 8)] * 3
    heads = table.only("head").sites
    assert [(s.num_units, s.width, s.num_groups) for s in heads] == [(8, 4, 4)] * 3
    assert {s.num_groups for s in hc.units(bert()).sites} == {1}
    assert {part.role for part in heads[0].parts} == {"query", "output"}
    roles = {part.role for part in table.only("kv_head").sites[0].parts}
    assert roles == {"query", "key", "value", "output"}


def test_a_model_without_attention_is_refused():
    message = r"has no attention heads. Looked for modules that fit .*; found Linear, Sequential"
    with pytest.raises(hc.ArchitectureError, match=message):
        hc.units(nn.Sequential(nn.Linear(2, 2)))


def test_attention_is_known_by_the_names_of_its_parts():
    assert hc.units(nn.Sequential(MysteryAttention()), "head").num("head") == 4
    norm = MysteryAttention(q_norm=nn.LayerNorm(6), dropout=nn.Dropout(0.1))
    assert hc.units(nn.Sequential(norm), "head").num("head") == 4


@pytest.mark.parametrize("extra", [nn.Linear(24, 24), nn.Conv1d(4, 4, 1), nn.Embedding(4, 4)])
def test_an_unknown_attention_is_named_with_what_was_looked_for(extra):
    message = (
        r"^units\(Sequential\): no table describes how its attention is built. Found "
        r"MysteryAttention \(q_proj, k_proj, v_proj, o_proj, mystery\).*mystery.weight.* Looked "
        r"for the layouts .*bert.*llama.*To add one, write a row in headcount/architectures/tables"
    )
    with pytest.raises(hc.ArchitectureError, match=message):
        hc.units(nn.Sequential(MysteryAttention(mystery=extra)))


def test_a_parameter_that_no_row_explains_is_refused():
    attention = MysteryAttention(temperature=nn.Parameter(torch.ones(4)))
    with pytest.raises(hc.ArchitectureError, match="no table describes how its attention is built"):
        hc.units(nn.Sequential(attention))


def test_attention_whose_projections_are_not_linear_is_refused():
    model = bert()
    for layer in model.bert.encoder.layer:
        layer.attention.self.query = nn.Identity()
    message = (
        r"no table describes how its attention is built. Found .*BertSelfAttention, whose query is "
        "a Identity"
    )
    with pytest.raises(hc.ArchitectureError, match=message):
        hc.units(model)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"output": 25}, "an output projection of 25 inputs, which neither its number of heads"),
        ({"value": 18}, "has 4 query heads and 3 key-value heads"),
        ({"key": 18, "value": 18}, "has 4 query heads and 3 key-value heads"),
        ({"key": 12}, "wide, which does not go with"),
        ({"value": 12}, "wide, which does not go with"),
        ({"query": 12}, "wide, which does not go with"),
        ({"key": 25}, "wide, which does not go with"),
        ({"value": 25}, "wide, which does not go with"),
        ({"query": 25}, "wide, which does not go with"),
    ],
    ids=str,
)
def test_projections_that_disagree_are_refused(widths, message):
    model = nn.Sequential(
        nn.Sequential(MysteryAttention()), nn.Sequential(MysteryAttention(**widths))
    )
    with pytest.raises(hc.ArchitectureError, match=rf"1\.0.*{message}"):
        hc.units(model)


def test_projections_of_bert_that_disagree_are_refused():
    model = bert()
    model.bert.encoder.layer[1].attention.self.key = nn.Linear(24, 12)
    with pytest.raises(hc.ArchitectureError, match=r"bert\.encoder\.layer\.1\.attention\.self"):
        hc.units(model)


def test_weight_norms_against_slices_written_out():
    model = bert().double()
    norms = weight_norms(model, hc.units(model, "head"), roles=("value", "output"))
    layer = model.bert.encoder.layer[1].attention
    own = slice(2 * 6, 3 * 6)
    value, output = layer.self.value.weight[own], layer.output.dense.weight[:, own]
    expected = (value.square().sum() + output.square().sum()).sqrt()
    assert norms[4 + 2].item() == pytest.approx(expected.item(), abs=1e-12)


def test_weight_norms_of_rows_and_groups_against_slices_written_out():
    model = llama().double()
    table = hc.units(model, "kv_head", "neuron")
    norms = weight_norms(model, table, roles=("value", "output", "up", "down"))
    layer = model.model.layers[2]
    attention, mlp = layer.self_attn, layer.mlp
    value = attention.v_proj.weight[4:8].square().sum()
    group = value + attention.o_proj.weight[:, 8:16].square().sum()
    row = mlp.gate_proj.weight[5].square().sum() + mlp.up_proj.weight[5].square().sum()
    row = row + mlp.down_proj.weight[:, 5].square().sum()
    starts = dict(zip([site.key for site in table.sites], table.slices, strict=True))
    for key, index, expected in (
        (("model.layers.2.self_attn", "kv_head"), 1, group),
        (("model.layers.2.mlp", "neuron"), 5, row),
    ):
        found = norms[starts[key].start + index].item()
        assert found == pytest.approx(expected.sqrt().item(), abs=1e-12)


def test_the_name_of_a_model_is_no_model():
    with pytest.raises(
        hc.ArgumentError, match=r"units\(model='bert-base-uncased'\): .*from_pretrain"
    ):
        hc.units("bert-base-uncased")


SHAPE = {"vocab_size": 30, "max_position_embeddings": 20, "pad_token_id": 1}


@pytest.mark.parametrize(
    ("family", "longest"),
    [
        ("bert", 20),
        ("roberta", 18),  # counts from behind the padding's number
        ("mpnet", 18),
        ("bart", 20),  # 22 rows
        ("gpt2", 20),
        ("llama", None),  # rotary
        ("t5", None),  # relative
        ("deberta-v2", None),
    ],
)
def test_the_tokens_that_a_model_reads_are_the_positions_it_has(family, longest):
    extra = {"position_biased_input": False} if family == "deberta-v2" else {}
    size = {"n_positions": 20} if family == "gpt2" else {}
    config = transformers.AutoConfig.for_model(family, **{**SHAPE, **extra, **size})
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    assert max_tokens(model) == longest
