"""Models of which it is known which heads carry the label: what finds them, what does not."""

from itertools import combinations, product

import pytest
import torch

import headcount as hc
from headcount.cli.methods import METHODS
from reference.planted import NUM_BITS, NUM_UNITS, choose, planted, values

SEEDS, STEPS = range(5), 100

PLAIN = {"dsp-ste", "dsp-ste-constant"}
"""Straight-through as it is misses one on some seeds: all logits get the part of the gradient that
raises every gate, and Adam then moves that of a head that helps a little as fast as any other."""
FINDERS = [
    method
    for name, method in METHODS.items()
    if name not in {*PLAIN, "hard-concrete-penalty"}
    and (method.learns or "gate_grads" in method.evidence)
]
FINDERS += [
    hc.GradientImportance(share=1.0),
    hc.GradientImportance(average="batch"),
    hc.GradientImportance(normalise="none"),
    hc.HardConcrete(pressure=hc.L0Penalty(weight=0.05)),  # a weight for a task of 150 steps
]


def essential(task):
    return sorted(unit for units in task.carriers for unit in units)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", FINDERS, ids=lambda method: method.name)
def test_the_heads_that_carry_the_label_are_the_ones_kept(method, seed):
    task = planted(seed)
    assert choose(task, method, steps=STEPS, seed=seed) == essential(task)


def only(*units):
    return torch.isin(torch.arange(NUM_UNITS), torch.tensor(units))


def without(*units):
    return ~only(*units)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_answer_is_the_best_of_all_keeps(seed):
    """By brute force; the norms of the weights do not tell it."""
    task = planted(seed, examples=16)
    keeps = torch.stack([only(*kept) for kept in combinations(range(NUM_UNITS), NUM_BITS)])
    losses, accuracies = values(task, keeps)
    best, second = losses.argsort()[:2]
    assert keeps[best].nonzero().flatten().tolist() == essential(task)
    assert losses[second] > losses[best] + 0.3
    assert accuracies[best] == 1
    assert choose(task, hc.Magnitude(), steps=0, seed=seed) != essential(task)


@pytest.mark.parametrize("seed", SEEDS)
def test_of_two_copies_either_will_do_and_one_must(seed):
    task = planted(seed, copies=2)
    one_gone = [without(unit) for units in task.carriers for unit in units]
    losses, accuracies = values(task, torch.stack([without(), *one_gone]))
    assert (accuracies == 1).all()
    assert (losses - losses[0]).abs().max() < 0.01
    both_gone = [without(*units) for units in task.carriers]
    lost, accuracies = values(task, torch.stack(both_gone))
    assert (lost > losses[0] + 0.5).all()
    assert (accuracies < 0.75).all()
    one_each = [only(*units) for units in product(*task.carriers)]
    assert (values(task, torch.stack(one_each))[1] == 1).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_first_order_scores_do_not_see_heads_that_have_a_copy(seed):
    """The loss hardly reacts to the gates of two copies, however much is lost without both."""
    task = planted(seed, copies=2)
    method = hc.GradientImportance(normalise="none", share=1.0)
    decision = hc.decide(task.model, method, hc.Budget(heads=NUM_BITS), task.batches())
    scores = torch.tensor([score for site in decision.sites for score in site.scores])
    seen = torch.stack([scores[list(units)].sum() for units in task.carriers])
    keeps = [without(), *(without(*units) for units in task.carriers)]
    losses = values(task, torch.stack(keeps))[0]
    assert (seen < 0.05 * (losses[1:] - losses[0])).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_norm_over_each_layer_saves_heads_of_a_layer_that_does_nothing(seed):
    """The fewer heads are left in a layer, the more of its norm each of them has."""
    task = planted(seed, layers=(1,))
    by_layer = choose(task, hc.GradientImportance(), steps=0, seed=seed)
    assert task.found(by_layer) < NUM_BITS
    assert min(by_layer) < NUM_UNITS // 2
    plain = hc.GradientImportance(normalise="none")
    assert choose(task, plain, steps=0, seed=seed) == essential(task)
