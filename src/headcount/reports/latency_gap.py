"""Correct a table of latencies, until models that are cut by it are as fast as was asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from headcount.architectures.discover import units
from headcount.door.arguments import checks_arguments
from headcount.errors import BudgetError, PruningError
from headcount.reports.fresh import fresh_latency_s
from headcount.reports.latency_table import WARMUP, token_ids
from headcount.reports.measure import Told, summary
from headcount.surgery.cut import cut
from headcount.units.budget import Budget
from headcount.units.cost_limit import CostLimit
from headcount.units.decision import Decision
from headcount.units.latency import LatencyTable
from headcount.units.quota import Quota

ROUNDS = 4
"""The most corrections of a table."""
WINDOW = 0.03
"""A latency is met if it was measured at most so far below the asked one, in shares of the whole
model's, and not above it."""
AIM = WINDOW / 2
"""A corrected table aims at the middle of the window: measuring again gives another number."""
LEADS = (-0.5, 0.0, 0.5)
"""How much higher the random scores of one kind of unit are than those of the others. Methods
differ in how they share a cost among kinds, and the corrected table has to suit all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """How fast models cut by a table are beside the whole model.

    Example:
        >>> Timed(predicted=0.5, measured=0.57).within(0.5)
        False
    """

    predicted: float
    """By the table, as a share of the whole model's latency."""
    measured: float
    """Side by side, as a share of the whole model's latency."""

    def within(self, asked: float) -> bool:
        """Whether the measured latency is as asked: not above it, and hardly below it."""
        return asked - WINDOW <= self.measured <= asked


@checks_arguments
def calibrate_latency(
    model: PreTrainedModel,
    budget: Budget,
    inputs: Mapping[str, Any] | None = None,
    *,
    num_runs: int = 10,
    told: Told | None = None,
) -> Budget:
    """Correct the table of a latency budget by timing whole cut models.

    A table adds up savings that were measured site by site, and a choice favours what was measured
    too cheap. So models are cut to the budget by random scores, and timed in turns with the whole
    model. If they are slower than asked, or much faster, the table's curves are scaled so that
    prediction and measurement agree, and the models are cut anew. The timing is done in a fresh
    process, where the models are on the CPU: see ``fresh_latency_s``.

    Args:
        model: the model, on its device; unchanged afterwards.
        budget: a budget of latency, with its table in ``costs``.
        inputs: keyword arguments of the model; token ids by default, in batches as in the table.
        num_runs: timed passes of each model. Give more if other work runs on the machine.
        told: called with (rounds done, rounds at most).

    Returns:
        The budget with the corrected table, whose ``corrections`` say what was measured.

    Raises:
        BudgetError: the budget is none of latency, or the model cannot be so fast.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> table = hc.latency_table(model, batch=1, length=4, shares=(), num_runs=1)
        >>> budget = hc.Budget(latency=1.0, costs=table)
        >>> hc.calibrate_latency(model, budget, num_runs=1).costs.corrections
        ()
    """
    table = budget.costs
    if budget.latency is None or table is None:
        raise BudgetError(
            f"calibrate_latency({budget}): give a budget of latency with a table: "
            "Budget(latency=0.5, costs=latency_table(model))."
        )
    given = inputs if inputs is not None else token_ids(model, table.batch, table.length)
    return meet(model, budget, given, representative(model), num_runs=num_runs, told=told)


def representative(model: nn.Module) -> Callable[[Budget], list[Decision]]:
    """A function that makes decisions for a budget by random scores, with each kind in the lead."""

    def choose(budget: Budget) -> list[Decision]:
        (quota,) = budget.quotas(units(model))
        return [_random(quota, lead, seed) for seed, lead in enumerate(LEADS)]

    return choose


def _random(quota: Quota, lead: float, seed: int) -> Decision:
    table = quota.units
    first = [float(site.kind == table.sites[0].kind) for site in table.sites]
    sizes = torch.tensor([site.num_units for site in table.sites])
    ahead = torch.tensor(first, dtype=torch.float64).repeat_interleave(sizes)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(len(table), generator=generator, dtype=torch.float64) + lead * ahead
    keep = quota.keep(scores)
    return Decision.of(table, keep, scores, {"method": {"name": "random"}, **quota.reached(keep)})


def meet(
    model: nn.Module,
    budget: Budget,
    inputs: Mapping[str, Any],
    choose: Callable[[Budget], list[Decision]],
    *,
    num_runs: int,
    told: Told | None = None,
) -> Budget:
    """Correct the table of a budget until the models that are chosen by it are as fast as asked.

    Args:
        model: the whole model; unchanged afterwards.
        budget: a budget of latency with its table.
        inputs: keyword arguments of the model.
        choose: makes decisions for a budget, at least one; always by the same scores.
        num_runs: timed passes of each model.
        told: called with (rounds done, rounds at most).

    Returns:
        The budget with the last table that the model can meet.
    """
    asked, start = cast(float, budget.latency), cast(LatencyTable, budget.costs)
    tried = list[Timed]()
    table = start
    for done in range(1, ROUNDS + 1):
        decisions = choose(replace(budget, costs=table))
        # With nothing removed, there is nothing to correct.
        if all(all(site.keep) for one in decisions for site in one.sites):
            break
        tried.append(timed(model, decisions, replace(budget, costs=start), inputs, num_runs))
        if told is not None:
            told(done, ROUNDS)
        if tried[-1].within(asked):
            break
        # By all rounds together: one alone follows the noise of its measurement.
        pairs = [(one.predicted, one.measured) for one in tried]
        try:
            corrected = start.corrected(pairs, margin=AIM)
            replace(budget, costs=corrected).quotas(units(model))
        except PruningError:  # no cut is so fast, or the machine is too busy to tell
            break
        table = corrected
    return replace(budget, costs=table)


def timed(
    model: nn.Module,
    decisions: list[Decision],
    budget: Budget,
    inputs: Mapping[str, Any],
    num_runs: int,
) -> Timed:
    """Cut a model by each decision, and time all in turns with the whole one.

    Args:
        model: the whole model; unchanged afterwards.
        decisions: the units that stay.
        budget: a budget whose table predicts.
        inputs: keyword arguments of the model.
        num_runs: timed passes of each model.

    Returns:
        The means over the decisions: of the predicted latency, and of the median ratio of
        neighbouring passes.
    """
    (quota,) = cast(tuple[CostLimit], budget.quotas(units(model)))
    models = {"whole": model} | {f"{i}": cut(model, one) for i, one in enumerate(decisions)}
    samples = fresh_latency_s(models, inputs, num_runs=num_runs, warmup=WARMUP)
    whole = samples.pop("whole")
    costs = [quota.costs.of(decision.keep(quota.units)) for decision in decisions]
    return Timed(
        predicted=mean(costs) / quota.whole,
        measured=mean(
            summary([a / b for a, b in zip(one, whole, strict=True)]).median
            for one in samples.values()
        ),
    )
