import pytest
import torch
import transformers

import headcount as hc
from cases import bert, llama, with_cross_attention
from headcount.zoo.tiny import tiny_model


def test_every_shape_is_measured_once_and_fits_the_model():
    model = bert().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    table = hc.latency_table(model, batch=2, length=8, shares=(0.5,), num_runs=2)
    assert [(c.kind, len(c.modules), c.counts) for c in table.curves] == [
        ("neuron", 3, (0, 1, 16, 32)),
        ("head", 3, (0, 1, 2, 4)),
    ]
    assert (table.batch, table.length) == (2, 8)
    assert table.whole_ns > 0
    assert table.environment["torch"] == torch.__version__
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    (quota,) = hc.Budget(latency=1.0, costs=table).quotas(hc.units(model))
    assert quota.whole == table.whole_ns


def test_a_model_of_another_width_is_refused(tmp_path):
    """As many heads in modules of the same names, and each four times as large."""
    hc.latency_table(bert(), batch=1, length=4, kinds=("head",), shares=(), num_runs=1).save(
        tmp_path / "table.json"
    )
    budget = hc.Budget(
        latency=1.0, costs=hc.LatencyTable.load(tmp_path / "table.json"), kinds=("head",)
    )
    budget.quotas(hc.units(bert()))
    wide = transformers.BertModel(
        transformers.BertConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4)
    )
    named = torch.nn.Module()
    named.bert = wide
    with pytest.raises(hc.PruningError, match=r"no measurement of 4 heads .* with 2340 parameters"):
        budget.quotas(hc.units(named))


def test_heads_that_share_keys_are_measured_as_groups():
    table = hc.latency_table(llama(), batch=1, length=4, shares=(), num_runs=1)
    assert {curve.kind for curve in table.curves} == {"kv_head", "neuron"}
    rows = hc.latency_table(llama(), batch=1, length=4, kinds=("neuron",), shares=(), num_runs=1)
    assert {curve.kind for curve in rows.curves} == {"neuron"}


def test_inputs_may_be_given():
    model = with_cross_attention()
    ids = torch.ones(2, 5, dtype=torch.long)
    inputs = {"input_ids": ids, "decoder_input_ids": ids}
    table = hc.latency_table(model, inputs, shares=(), num_runs=1)
    assert (table.batch, table.length) == (2, 5)
    measured = {module for curve in table.curves for module in curve.modules}
    wanted = {site.module for site in hc.units(model, "head", "neuron").sites}
    assert measured == wanted


@pytest.mark.parametrize("shares", [(1.0,), (0.5, -0.1)])
def test_shares_out_of_range_are_refused(shares):
    with pytest.raises(hc.PruningError, match="give shares of 0 or more and below 1"):
        hc.latency_table(bert(), shares=shares)


def test_encoder_and_decoder_have_curves_of_their_own():
    """They may read texts of different length."""
    model = tiny_model("bart")
    ids = torch.randint(5, 30, (1, 8))
    inputs = {"input_ids": ids, "decoder_input_ids": ids[:, :2]}
    table = hc.latency_table(model, inputs, shares=(), num_runs=1, kinds=("neuron",))
    stacks = [{"decoder" in module for module in curve.modules} for curve in table.curves]
    assert sorted(map(tuple, stacks)) == [(False,), (True,)]


@pytest.mark.parametrize("name", ["t5", "vit"])
def test_a_model_that_reads_more_than_token_ids_asks_for_inputs(name):
    with pytest.raises(hc.PruningError, match=r"does not run on token ids alone .* Give inputs"):
        hc.latency_table(tiny_model(name), batch=1, length=4, num_runs=1)
