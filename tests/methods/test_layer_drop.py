"""LayerDrop: by chance in training, evenly spaced in the end."""

import pytest
import torch
import transformers
from torch import Generator

import headcount as hc
from cases import TINY, batch, bert, llama, with_cross_attention
from headcount.maths.spacing import evenly_spaced
from headcount.methods.method import Step

STEP = Step(index=0, total=1)
LABELS = torch.tensor([0, 1, 2])


def deep(num_layers):
    config = transformers.BertConfig(**{**TINY, "num_hidden_layers": num_layers})
    return transformers.BertForSequenceClassification(config).eval()


def layers_kept(decision):
    return [site.layer for site in decision.sites if site.kept]


def test_every_number_of_layers_is_evenly_spaced_and_asked_of_one_state():
    """As after one training run: only the quota is exchanged."""
    for num in (2, 3, 6, 12):
        table = hc.units(deep(num), "layer")
        method, generator = hc.LayerDrop(), Generator()
        (first,) = hc.Budget(layers=num).quotas(table)
        state = method.init(first, generator)
        for num_keep in range(num + 1):
            (quota,) = hc.Budget(layers=num_keep).quotas(table)
            state.quota = quota
            keep = quota.keep(method.scores(state))
            assert keep.nonzero().flatten().tolist() == list(evenly_spaced(num, num_keep))


@pytest.mark.parametrize("num_keep", range(7))
def test_modules_are_spread_over_the_depth(num_keep):
    decision = hc.decide(bert(), hc.LayerDrop(), hc.Budget(sublayers=num_keep))
    kept = [i for i, site in enumerate(decision.sites) if site.kept]
    assert kept == list(evenly_spaced(6, num_keep))


@pytest.mark.parametrize(
    ("limits", "least"), [({"min_per_layer": 1}, 1), ({"scope": "layer"}, 1)], ids=str
)
def test_limits_per_layer_hold(limits, least):
    amount = 1 if "scope" in limits else 4
    decision = hc.decide(bert(), hc.LayerDrop(), hc.Budget(sublayers=amount, **limits))
    assert decision.num_kept == (3 if "scope" in limits else 4)
    assert min(decision.kept_per_layer) == least


def test_each_place_is_spread_by_itself():
    model = with_cross_attention()
    decision = hc.decide(model, hc.LayerDrop(), hc.Budget(layers={"encoder": 2, "decoder": 1}))
    kept = [(site.stack, site.layer) for site in decision.sites if site.kept]
    assert kept == [("encoder", 0), ("encoder", 2), ("decoder", 0)]


def test_the_largest_choice_that_fits_is_taken_whatever_the_quota_counts():
    """Layers that cost 3 each of 8 that may remain."""

    class Costly:
        target = 8.0

        def expected(self, chances):
            return 3 * chances.sum()

    method = hc.LayerDrop()
    (quota,) = hc.Budget(layers=5).quotas(hc.units(deep(5), "layer"))
    state = method.init(quota, Generator())
    state.quota = Costly()
    assert method.scores(state).tolist() == [1, 0, 0, 0, 1]


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5])
def test_each_unit_is_dropped_as_often_as_asked_and_by_itself(drop):
    method, generator = hc.LayerDrop(drop=drop), Generator().manual_seed(0)
    (quota,) = hc.Budget(layers=2).quotas(hc.units(bert(), "layer"))
    state = method.init(quota, generator)
    gates = torch.stack([method.gates(state, STEP, generator) for _ in range(10_000)])
    assert set(gates.unique().tolist()) <= {0.0, 1.0}  # nothing is rescaled
    error = 4 * (drop * (1 - drop) / 10_000) ** 0.5
    assert (gates.mean(0) - (1 - drop)).abs().max() <= error
    if drop:
        correlation = gates.T.corrcoef() - torch.eye(3, dtype=torch.float64)
        assert correlation.abs().max() < 0.04


@pytest.mark.parametrize("budget", [hc.Budget(layers=2), hc.Budget(sublayers=3)], ids=str)
def test_all_parameters_of_what_is_dropped_have_a_gradient(budget):
    """Of zero, but there: data-parallel training waits for every one."""
    model = bert().train()
    with hc.attach(model, hc.LayerDrop(drop=0.99), budget, num_steps=1) as session:
        model(**batch(), labels=LABELS).loss.backward()
        assert not session.gates.value.any()
    grads = {n: p.grad for n, p in model.named_parameters() if "encoder.layer" in n}
    assert all(grad is not None for grad in grads.values())
    dropped = {n: g for n, g in grads.items() if budget.layers is not None or "dense" in n}
    assert dropped
    assert not any(grad.any() for grad in dropped.values())


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="PyTorch without gloo",
)
def test_data_parallel_training_waits_for_no_parameter_of_a_dropped_layer(tmp_path):
    """Without a search for unused parameters, a missing gradient fails at the next pass."""
    file = f"file://{tmp_path}/meeting"
    torch.distributed.init_process_group("gloo", init_method=file, rank=0, world_size=1)
    try:
        model = bert().train()
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        method = hc.LayerDrop(drop=0.8)
        with hc.attach(model, method, hc.Budget(layers=2), num_steps=4) as session:
            seen = set()
            for _ in range(8):
                parallel(**batch(), labels=LABELS).loss.backward()
                seen.add(tuple(session.gates.value.tolist()))
            assert len(seen) > 1
    finally:
        torch.distributed.destroy_process_group()


def test_training_skips_and_evaluation_has_the_decision():
    model = bert()
    with hc.attach(model, hc.LayerDrop(drop=0.5), hc.Budget(layers=2), num_steps=20) as session:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        drawn = []
        for _ in range(20):
            model.train()
            (model(**batch(), labels=LABELS).loss + session.penalty()).backward()
            drawn.append(tuple(session.gates.value.tolist()))
            session.clip_grad()
            optimizer.step()
            optimizer.zero_grad()
            session.step()
        assert len(set(drawn)) > 3
        model.eval()
        gated = model(**batch()).logits
        assert session.gates.value.tolist() == [1, 0, 1]
        decision = session.decision()
    assert layers_kept(decision) == [0, 2]
    small = hc.cut(model, decision)
    assert hc.units(small).num("layer") == decision.num_kept == 2
    torch.testing.assert_close(small(**batch()).logits, gated, atol=1e-5, rtol=0)


def test_one_trained_model_is_decided_at_several_depths():
    model = llama()
    for num_keep, layers in ((1, [0]), (2, [0, 2]), (3, [0, 1, 2])):
        decision = hc.decide(model, hc.LayerDrop(), hc.Budget(layers=num_keep))
        assert layers_kept(decision) == layers
        assert hc.units(hc.cut(model, decision)).num("layer") == num_keep


@pytest.mark.parametrize(
    ("budget", "named"),
    [(hc.Budget(heads=5), "heads"), (hc.Budget(layers=2, neurons=9), "neurons")],
    ids=str,
)
def test_a_budget_of_other_kinds_is_refused(budget, named):
    model = bert()
    message = rf"LayerDrop\(\): the budget is about {named}. .*Budget\(layers=...\)"
    with pytest.raises(hc.BudgetError, match=message):
        hc.attach(model, hc.LayerDrop(), budget, num_steps=1)
    hc.attach(model, hc.LayerDrop(), hc.Budget(layers=2), num_steps=1).close()


@pytest.mark.parametrize("drop", [-0.1, 1.0, float("nan")])
def test_a_probability_out_of_range_is_refused(drop):
    with pytest.raises(hc.BudgetError, match=r"LayerDrop\(drop=.*\): give a probability"):
        hc.LayerDrop(drop=drop)
