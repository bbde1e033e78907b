"""Gradient importance: what it measures, and how the least important units go in rounds."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

import headcount as hc
from cases import batch, bert, llama
from headcount.evidence.evidence import Evidence
from headcount.methods.gradient import Importance, above_removed, over_layer_norm, size_at
from headcount.methods.method import Step
from headcount.units.budget import Budget
from headcount.units.table import UnitTable
from reference import gate_gradients as twin

LAYERS, HEADS = 3, 4
UNITS, GROUPED = hc.units(bert(), "head"), hc.units(llama(), "head")
UNEVEN = UnitTable(
    sites=tuple(
        replace(site, num_groups=groups)
        for site, groups in zip(GROUPED.sites, (4, 2, 1), strict=True)
    )
)
"""Layers of eight query heads that share four, two and one key-value heads."""


def labelled():
    return {**batch(size=4), "labels": torch.tensor([0, 1, 2, 1])}


def examples():
    return [{name: value[i : i + 1] for name, value in labelled().items()} for i in range(4)]


def large_bert():
    """A tiny classifier whose heads matter."""
    model = bert().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def scores_of(model, method, batches):
    """The scores of one round on the whole model."""
    decision = hc.decide(model, method, hc.Budget(heads=LAYERS * HEADS), batches)
    return [score for site in decision.sites for score in site.scores]


def test_the_evidence_is_the_gradient_of_each_example():
    model = large_bert()
    rows = twin.example_grads(model, examples(), LAYERS, HEADS)
    assert len({abs(value) for row in rows for value in row}) == 4 * LAYERS * HEADS
    method = hc.GradientImportance(normalise="none")
    for size in (4, 2, 1):
        own = [{k: v[i : i + size] for k, v in labelled().items()} for i in range(0, 4, size)]
        assert scores_of(model, method, own) == pytest.approx(twin.mean_abs(rows), rel=1e-9)


def test_the_average_over_batches_is_the_gradient_of_their_mean_loss():
    model = large_bert()
    rows = twin.example_grads(model, examples(), LAYERS, HEADS)
    method = hc.GradientImportance(average="batch", normalise="none")
    assert scores_of(model, method, [labelled()]) == pytest.approx(twin.abs_mean(rows), rel=1e-9)
    halves = [{k: v[i : i + 2] for k, v in labelled().items()} for i in (0, 2)]
    expected = [
        (a + b) / 2 for a, b in zip(twin.abs_mean(rows[:2]), twin.abs_mean(rows[2:]), strict=True)
    ]
    assert scores_of(model, method, halves) == pytest.approx(expected, rel=1e-9)


def test_the_gradient_is_what_a_small_change_of_a_gate_does():
    model = large_bert()
    rows = twin.example_grads(model, examples(), LAYERS, HEADS)
    step, unit = 1e-5, 6
    losses = []
    for gate in (1 + step, 1 - step):
        changed = twin.without(model, [], HEADS)
        weight = changed.get_parameter(twin.NAME.format(unit // HEADS))
        with torch.no_grad():
            weight.chunk(HEADS, 1)[unit % HEADS].mul_(gate)
            losses.append(changed(**examples()[0]).loss.item())
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(rows[0][unit], rel=1e-5)


@pytest.mark.parametrize("heads", [0, 2, 5, 11])
@pytest.mark.parametrize("share", [0.05, 0.25, 1.0])
def test_rounds_are_those_of_a_twin_that_scores_a_masked_model_anew(share, heads):
    model, method = large_bert(), hc.GradientImportance(share=share)
    at_once = math.ceil(share * 12)
    rounds = math.ceil((12 - heads) / at_once)
    sizes = [
        heads + math.floor((12 - heads) * (rounds - done) / rounds + 0.5)
        for done in range(1, rounds + 1)
    ]
    removed, last = twin.removal_order(model, examples(), sizes, LAYERS, HEADS)
    steps = []
    decision = hc.decide(model, method, hc.Budget(heads=heads), [labelled()], progress=steps.append)
    assert steps == [Step(index=done, total=rounds) for done in range(1, rounds + 1)]
    keep = decision.keep(UNITS)
    assert (~keep).nonzero().flatten().tolist() == sorted(removed)
    scores = torch.tensor([score for site in decision.sites for score in site.scores])
    assert scores[list(last)].tolist() == pytest.approx([*last.values()], rel=1e-6)
    order = sorted(range(12), key=lambda unit: (scores[unit], -unit))
    assert order[: len(removed)] == removed


def test_on_pure_noise_the_gradient_of_a_batch_is_smaller_by_the_root_of_its_size():
    """Why the average matters: a batch of 32 hides what its examples do."""
    generator = Generator().manual_seed(0)
    table = hc.units(bert(), "neuron")
    (quota,) = hc.Budget(neurons=1).quotas(table)
    found = []
    grads = [torch.randn(32, len(table), generator=generator) for _ in range(40)]
    for average in ("example", "batch"):
        method = hc.GradientImportance(average=average, normalise="none", share=1.0)
        state = method.init(quota, generator)
        for rows in grads:
            method.observe(state, Evidence(gate_grads=rows))
        method.finish_round(state, Step(index=0, total=1))
        found.append(method.scores(state).mean().item())
    assert found[0] / found[1] == pytest.approx(math.sqrt(32), rel=0.03)


def run(method, units, budget, generator):
    """The units that are on in each round and after the last, and the state."""
    (quota,) = budget.quotas(units)
    state = method.init(quota, generator)
    total = method.num_rounds(quota)
    keeps = []
    for index in range(total):
        step = Step(index=index, total=total)
        keeps.append(method.gates(state, step, generator).bool())
        for _ in range(2):
            grads = torch.rand(3, len(units), generator=generator) ** 4
            method.observe(state, Evidence(gate_grads=grads))
        method.finish_round(state, step)
    keeps.append(quota.keep(method.scores(state)))
    assert torch.equal(keeps[-1], method.gates(state, Step(index=total, total=total), generator))
    return keeps, state, quota


BUDGETS = st.one_of(
    st.builds(lambda k: (UNITS, Budget(heads=k)), st.integers(0, 12)),
    st.builds(lambda k: (UNITS, Budget(heads=k, min_per_layer=2)), st.integers(6, 12)),
    st.builds(lambda k: (UNITS, Budget(heads=k, scope="layer")), st.integers(0, 4)),
    st.builds(lambda k: (GROUPED, Budget(heads=4 * k)), st.integers(0, 6)),
    st.builds(lambda k: (GROUPED, Budget(heads=4 * k, min_per_layer=4)), st.integers(3, 6)),
    st.builds(lambda k: (GROUPED, Budget(heads=4 * k, scope="layer")), st.integers(0, 2)),
)


@given(
    case=BUDGETS,
    share=st.floats(0.01, 1),
    normalise=st.sampled_from(["layer", "none"]),
    seed=st.integers(0, 99),
)
def test_what_is_removed_stays_removed(case, share, normalise, seed):
    units, budget = case
    method = hc.GradientImportance(share=share, normalise=normalise)
    keeps, state, quota = run(method, units, budget, Generator().manual_seed(seed))
    assert keeps[0].all()
    assert keeps[-1].sum() == quota.num_keep
    for before, after in pairwise(keeps):
        assert not (after & ~before).any()
    rounds_on = torch.stack(keeps[:-1]).sum(0)  # a unit that goes later has the higher score
    later = rounds_on[:, None] > rounds_on[None, :]
    assert (state.scores[:, None] > state.scores[None, :])[later].all()
    assert (state.scores >= 0).equal(keeps[-2])


@given(heads=st.integers(0, 12), share=st.floats(0.01, 1), seed=st.integers(0, 9))
def test_no_round_takes_more_than_its_share(heads, share, seed):
    method = hc.GradientImportance(share=share)
    keeps, _, _ = run(method, UNITS, hc.Budget(heads=heads), Generator().manual_seed(seed))
    sizes = [int(keep.sum()) for keep in keeps]
    at_once = math.ceil(share * 12)
    assert len(keeps) - 1 == max(1, math.ceil((12 - heads) / at_once))
    gone = [a - b for a, b in pairwise(sizes)]
    assert min(gone) >= 0
    assert max(gone) <= at_once
    assert max(gone) - min(gone) <= 1


@given(groups=st.integers(0, 24), share=st.floats(0.01, 1), seed=st.integers(0, 30))
def test_uneven_groups_have_equal_counts_in_every_round(groups, share, seed):
    """A head may come back here, where no count of those that are left would add up."""
    method = hc.GradientImportance(share=share)
    keeps, _, quota = run(
        method, UNEVEN, hc.Budget(heads=groups / 24), Generator().manual_seed(seed)
    )
    sizes = [int(keep.sum()) for keep in keeps]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == quota.num_keep
    for keep in keeps:
        for site, span in zip(UNEVEN.sites, UNEVEN.slices, strict=True):
            counts = keep[span].view(site.num_groups, -1).sum(1)
            assert (counts == counts[0]).all()


@dataclass(frozen=True)
class Weight:
    """A quota of a cost: the best units in order, as long as they fit."""

    target: float
    costs: tuple[float, ...]

    units = UNITS

    @property
    def whole(self):
        return sum(self.costs)

    def between(self, at):
        return replace(self, target=at(sum(self.costs), self.target))

    def keep(self, scores, *, allowed=None):
        ranking = scores.argsort(descending=True, stable=True)
        fits = torch.tensor(self.costs).double()[ranking].cumsum(0) <= self.target
        return torch.zeros(len(scores), dtype=torch.bool).index_fill(0, ranking[fits], True)


@pytest.mark.parametrize("scale", [1, 1e-6, 1e6])
def test_a_budget_of_a_cost_falls_evenly_over_the_rounds(scale):
    costs = tuple(scale * cost for cost in (1.0, 2.0, 3.0) * 4)
    quota, method = Weight(12.0 * scale, costs), hc.GradientImportance(share=0.25)
    assert method.num_rounds(quota) == 2  # a half goes, a quarter a time
    assert replace(method, share=0.1).num_rounds(quota) == 3  # a tenth: two of twelve
    state, generator = method.init(quota, Generator()), Generator().manual_seed(0)
    for index, most in enumerate((24, 18, 12)):
        step = Step(index=index, total=2)
        on = method.gates(state, step, generator).bool()
        assert most - 3 < torch.tensor(costs)[on].sum() / scale <= most + 1e-6
        assert index > 0 or on.all()
        method.observe(state, Evidence(gate_grads=torch.rand(3, 12, generator=generator)))
        if index < 2:
            method.finish_round(state, step)


def test_nothing_to_remove_is_one_round():
    method = hc.GradientImportance()
    (quota,) = hc.Budget(heads=1.0).quotas(UNITS)
    assert method.num_rounds(quota) == 1


@pytest.mark.parametrize(("share", "units", "rounds"), [(0.07, 100, 15), (0.1, 30, 10)])
def test_a_share_is_rounded_up_to_whole_units_but_not_because_of_its_last_bit(share, units, rounds):
    table = UnitTable(sites=(replace(UNITS.sites[0], num_units=units),))
    (quota,) = hc.Budget(heads=0).quotas(table)
    assert hc.GradientImportance(share=share).num_rounds(quota) == rounds


def test_a_layer_without_gradients_scores_zero():
    layer = torch.tensor([0, 0, 1, 1])
    importance, on = torch.tensor([3.0, 4.0, 0.0, 0.0]), torch.ones(4, dtype=torch.bool)
    assert over_layer_norm(importance, layer=layer, on=on).tolist() == pytest.approx(
        [0.6, 0.8, 0, 0]
    )
    model = bert()
    with torch.no_grad():
        model.bert.encoder.layer[1].attention.output.dense.weight.zero_()
    decision = hc.decide(model, hc.GradientImportance(), hc.Budget(heads=8), [labelled()])
    assert decision.kept_per_layer == (4, 0, 4)


def test_the_norm_is_over_the_units_that_are_on():
    found = over_layer_norm(
        torch.tensor([3.0, 4.0, 100.0]), layer=torch.zeros(3).long(), on=torch.tensor([1, 1, 0]) > 0
    )
    assert found.tolist() == pytest.approx([0.6, 0.8, 0.0])


def test_layers_of_one_unit_are_not_normalised():
    """Each would have all of its layer's norm."""
    model, found = large_bert(), []
    for normalise in ("layer", "none"):
        method = hc.GradientImportance(normalise=normalise, share=1.0)
        decision = hc.decide(model, method, hc.Budget(layers=2), [labelled()])
        found.append([score for site in decision.sites for score in site.scores])
    assert found[0] == found[1]
    assert len(set(found[0])) == 3


def test_fewer_heads_than_layers_are_chosen_by_what_they_do():
    """When every layer is down to one head, the norm would make them all alike."""
    method, generator = hc.GradientImportance(share=1 / 12), Generator().manual_seed(0)
    (quota,) = hc.Budget(heads=1).quotas(UNITS)
    state = method.init(quota, generator)
    grads = torch.tensor([[4.0, 3, 2, 1, 40, 30, 20, 10, 0.4, 0.3, 0.2, 0.1]])
    for index in range(11):
        method.observe(state, Evidence(gate_grads=grads))
        method.finish_round(state, Step(index=index, total=11))
        left = quota.at_least(11 - index).keep(state.scores)
        if index == 8:
            assert left.nonzero().flatten().tolist() == [0, 4, 8]
    assert left.nonzero().flatten().tolist() == [4]


def test_new_scores_stand_above_the_old_ones_at_any_scale():
    scores = torch.tensor([0.0, 1e-12, 0.0, 2e-12], dtype=torch.float64)
    on = torch.tensor([False, False, True, False])
    for importance in (0.0, 1e-30, 1e30):
        placed = above_removed(scores, torch.full((4,), importance, dtype=torch.float64), on=on)
        assert placed[2] == importance
        assert placed[0] < placed[1] < placed[3] < -placed[on].sum()


@pytest.mark.parametrize("index", range(4))
def test_counts_fall_by_halves_rounded_up(index):
    assert size_at(Step(index=index, total=3), 5, 0) == (5, 3, 2, 0)[index]
    assert size_at(Step(index=index, total=4), 1.0, 0.0) == (1.0, 0.75, 0.5, 0.25)[index]


def test_a_saved_state_goes_on_in_the_middle_of_a_round():
    method, generator = hc.GradientImportance(share=0.5), Generator().manual_seed(0)
    (quota,) = hc.Budget(heads=3).quotas(UNITS)
    grads = torch.rand(6, 5, 12, generator=generator)

    def go_on(state, parts, rounds):
        for part, index in zip(parts, rounds, strict=True):
            method.observe(state, Evidence(gate_grads=part))
            if index is not None:
                method.finish_round(state, Step(index=index, total=2))

    whole = method.init(quota, generator)
    go_on(whole, grads, (None, None, 0, None, None, 1))
    first = method.init(quota, generator)
    go_on(first, grads[:4], (None, None, 0, None))
    second = method.init(quota, generator)
    second.load_state_dict(first.state_dict())
    go_on(second, grads[4:], (None, 1))
    assert {name: value.tolist() for name, value in second.state_dict().items()} == {
        name: value.tolist() for name, value in whole.state_dict().items()
    }
    assert isinstance(second, Importance)
    assert not second.count
    assert not second.sums.any()
    assert len(second.scores.unique()) == 12


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "gradient"),
        ({"average": "batch"}, "gradient-batch"),
        ({"normalise": "none"}, "gradient-raw"),
        ({"share": 1.0}, "gradient-once"),
        ({"average": "batch", "normalise": "none", "share": 1}, "gradient-batch-raw-once"),
    ],
)
def test_names(settings, name):
    assert hc.GradientImportance(**settings).name == name


def test_it_starts_from_a_model_that_is_fine_tuned():
    assert hc.GradientImportance().rests
    assert not hc.GradientImportance().learns


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"average": "median"}, r"\(average='median'\): give 'example' or 'batch'"),
        ({"normalise": "all"}, r"\(normalise='all'\): give 'layer' or 'none'"),
        ({"share": 0.0}, r"\(share=0.0\): give a share of the units, above 0 and at most 1"),
        ({"share": 1.5}, r"\(share=1.5\): give a share"),
        ({"share": float("nan")}, r"\(share=nan\): give a share"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(hc.BudgetError, match=message):
        hc.GradientImportance(**settings)


def test_evidence_that_is_missing_is_named():
    method = hc.GradientImportance()
    (quota,) = hc.Budget(heads=3).quotas(UNITS)
    state = method.init(quota, Generator())
    with pytest.raises(hc.PruningError, match="the evidence has no gate_grads"):
        method.observe(state, Evidence())
    with pytest.raises(hc.PruningError, match="no gradient was observed in this round"):
        method.finish_round(state, Step(index=0, total=1))
