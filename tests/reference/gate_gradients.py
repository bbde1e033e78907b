"""The slow twin of gradient importance: one example, one loop after the other, no hooks.

A head's gate multiplies its columns of the output projection, which is the same as multiplying what
the head computes. The gradient is taken example by example. Removed heads have columns of zeros, in
a copy of the model that is made anew for every round.
"""

import copy
import math

import torch
from torch.func import functional_call

NAME = "bert.encoder.layer.{}.attention.output.dense.weight"


def example_grads(model, examples, num_layers, num_heads):
    """For each example the gradient of its loss with respect to each head's gate, nested lists."""
    weights = dict(model.named_parameters())
    rows = []
    for example in examples:
        gates = [
            [torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(num_heads)]
            for _ in range(num_layers)
        ]
        gated = {}
        for layer in range(num_layers):
            columns = weights[NAME.format(layer)].chunk(num_heads, 1)
            parts = [part * gate for part, gate in zip(columns, gates[layer], strict=True)]
            gated[NAME.format(layer)] = torch.cat(parts, 1)
        loss = functional_call(model, gated, kwargs=example).loss
        flat = [gate for layer in gates for gate in layer]
        rows.append([grad.item() for grad in torch.autograd.grad(loss, flat)])
    return rows


def mean_abs(rows):
    """The mean over examples of the absolute gradient."""
    return [sum(abs(row[n]) for row in rows) / len(rows) for n in range(len(rows[0]))]


def abs_mean(rows):
    """The absolute gradient of the mean loss."""
    return [abs(sum(row[n] for row in rows) / len(rows)) for n in range(len(rows[0]))]


def over_norms(importance, on, num_heads):
    """Importances over the L2 norm of the heads of their layer that are on.

    Where no layer has two that are on, they stay as they are.
    """
    found = {unit: importance[unit] for unit in on}
    if len({unit // num_heads for unit in on}) == len(on):
        return found
    for unit in on:
        mates = [other for other in on if other // num_heads == unit // num_heads]
        norm = math.sqrt(sum(importance[other] ** 2 for other in mates))
        found[unit] = importance[unit] / norm if norm else 0.0
    return found


def without(model, removed, num_heads):
    """A copy of the model in which heads contribute nothing."""
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for unit in removed:
            weight = masked.get_parameter(NAME.format(unit // num_heads))
            weight.chunk(num_heads, 1)[unit % num_heads].zero_()
    return masked


def removal_order(model, examples, sizes, num_layers, num_heads):
    """Heads in the order they go, and the scores of the last round.

    Args:
        model: a BERT classifier in float64, in evaluation mode.
        examples: keyword arguments of single examples, with labels.
        sizes: heads that are left after each round.
        num_layers: layers of the model.
        num_heads: heads of each.
    """
    on, removed, scores = list(range(num_layers * num_heads)), [], {}
    for size in sizes:
        masked = without(model, removed, num_heads)
        rows = example_grads(masked, examples, num_layers, num_heads)
        scores = over_norms(mean_abs(rows), on, num_heads)
        worst = sorted(on, key=lambda unit: (scores[unit], -unit))[: len(on) - size]
        removed += worst
        on = [unit for unit in on if unit not in worst]
    return removed, scores
