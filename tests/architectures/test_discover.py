import pytest
import torch
import transformers
from torch import nn

import headcount as hc
from cases import CLASSIFIERS, TINY, bert, with_cross_attention
from headcount.architectures.weights import weight_norms


@pytest.mark.compat
@pytest.mark.parametrize("case", CLASSIFIERS, ids=str)
def test_every_row_of_the_table_finds_its_heads(case):
    model = case.make()
    table = hc.units(model)
    assert table.kinds == {"head"}
    assert table.num("head") == len(table) == len(list(table)) == 12
    assert table.num("row") == 0
    assert [site.layer for site in table.sites] == [0, 1, 2]
    assert {(site.stack, site.where, site.width) for site in table.sites} == {
        ("encoder", "self", 6)
    }


def test_the_cost_of_a_head_of_bert_base():
    """Kwon et al. 2022: 27,262,976 MACs a head at 128 tokens; 196,800 parameters."""
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig())
    cost = hc.units(model).sites[0].cost
    assert (cost.params, cost.macs(128)) == (196_800, 27_262_976)


@pytest.mark.parametrize("case", CLASSIFIERS, ids=str)
def test_the_parameters_of_a_head_are_those_that_go(case):
    model = case.make()
    cost = hc.units(model).sites[0].cost
    small = hc.cut(model, hc.decide(model, hc.Random(seed=0), hc.Budget(heads=2, scope="layer")))
    gone = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small.parameters())
    assert gone == 6 * cost.params


def test_self_and_cross_attention_are_told_apart():
    places = [(s.stack, s.where, s.layer) for s in hc.units(with_cross_attention()).sites]
    assert places[:3] == [("encoder", "self", layer) for layer in range(3)]
    assert places[3:5] == [("decoder", "self", 0), ("decoder", "cross", 0)]


def test_a_model_without_attention_is_refused():
    with pytest.raises(
        hc.ArchitectureError, match=r"has no attention heads. Looked for modules of"
    ):
        hc.units(nn.Sequential(nn.Linear(2, 2)))


def test_an_unknown_attention_is_named_with_what_was_looked_for():
    model = transformers.AlbertModel(transformers.AlbertConfig(**TINY, embedding_size=8))
    message = r"built by AlbertAttention, which no table describes. Looked for: BertCross.*BertSelf"
    with pytest.raises(hc.ArchitectureError, match=message):
        hc.units(model)


def test_a_projection_that_is_not_linear_is_refused():
    model = bert()
    model.bert.encoder.layer[1].attention.self.query = nn.Identity()
    with pytest.raises(hc.ArchitectureError, match=r"is a Identity; a torch.nn.Linear is needed"):
        hc.units(model)


def test_projections_that_disagree_are_refused():
    model = bert()
    model.bert.encoder.layer[1].attention.self.key = nn.Linear(24, 12)
    with pytest.raises(hc.ArchitectureError, match=r"are \[12, 24\] wide"):
        hc.units(model)


def test_weight_norms_against_slices_written_out():
    model = bert().double()
    norms = weight_norms(model, hc.units(model), roles=("value", "output"))
    layer = model.bert.encoder.layer[1].attention
    own = slice(2 * 6, 3 * 6)
    value, output = layer.self.value.weight[own], layer.output.dense.weight[:, own]
    expected = (value.square().sum() + output.square().sum()).sqrt()
    assert norms[4 + 2].item() == pytest.approx(expected.item(), abs=1e-12)
