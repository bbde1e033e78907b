"""A method's states and choice for all units of a budget, without a model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Any, cast, final

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from headcount.errors import BudgetError
from headcount.evidence.evidence import Evidence
from headcount.evidence.watch import share_of
from headcount.methods.method import Method, State, Step
from headcount.units.budget import Budget
from headcount.units.decision import Decision
from headcount.units.kinds import WHOLE
from headcount.units.nesting import allowed
from headcount.units.quota import Quota
from headcount.units.table import UnitTable


@final
class Choice:
    """A method's states, one for each quota of a budget, seen as vectors over all units.

    A method handles one quota at a time. This class joins them: it joins gates and scores, splits
    evidence between the states, and keeps no inner unit of an outer unit that is removed.

    Example:
        >>> import headcount as hc, transformers
        >>> table = hc.units(transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)))
        >>> choice = Choice(table, hc.Random(), hc.Budget(heads=3, neurons=0.5), seed=0)
        >>> len(choice.states), int(choice.keep().sum())
        (2, 1539)
    """

    def __init__(self, found: UnitTable, method: Method, budget: Budget, *, seed: int) -> None:
        """Make the states of the start.

        Args:
            found: all units of the model.
            method: how to choose.
            budget: what must remain.
            seed: seed of the generator; the method's own ``seed`` comes first.

        Raises:
            BudgetError: the method cannot serve the budget, or the model cannot meet it.
        """
        method.check(budget)
        self._found, self._method = found, method
        self.budget, self.quotas = budget, budget.quotas(found, additive=method.additive)
        self.units = UnitTable(sites=tuple(s for quota in self.quotas for s in quota.units.sites))
        ends = [0, *accumulate(len(quota.units) for quota in self.quotas)]
        self._spans = [slice(a, b) for a, b in pairwise(ends)]
        self.generator = Generator().manual_seed(seed if method.seed is None else method.seed)
        self.provenance = {"method": method.describe(), "seed": seed}
        self.states = nn.ModuleList(method.init(quota, self.generator) for quota in self.quotas)

    def observe(self, evidence: Mapping[str, Any]) -> None:
        """Give each state its part of the evidence over all units."""
        for state, own in zip(self.states, self.shared(evidence), strict=True):
            self._method.observe(state, own)

    def shared(self, evidence: Mapping[str, Any]) -> list[Evidence]:
        """The part of each state in the evidence over all units."""
        return [Evidence(**share_of(evidence, span)) for span in self._spans]

    def draw(self, step: Step) -> Float[Tensor, " n"]:
        """The gates of one forward pass in training, [N]."""
        drawn = (self._method.gates(state, step, self.generator) for state in self.states)
        return torch.cat([*drawn])

    def penalty(self, step: Step, evidence: Mapping[str, Any]) -> Float[Tensor, ""]:
        """The sum of the states' penalties."""
        shares = zip(self.states, self.shared(evidence), strict=True)
        return torch.stack([self._method.penalty(state, step, own) for state, own in shares]).sum()

    def finish_round(self, step: Step) -> None:
        """Tell the method that a round over the data is done."""
        for state in self.states:
            self._method.finish_round(state, step)

    def scores(self) -> Float[Tensor, " n"]:
        """The current scores, [N]."""
        return torch.cat([self._method.scores(state) for state in self.states])

    def keep(self) -> Bool[Tensor, " n"]:
        """The current keep, exact, [N]; units inside a removed unit are removed too."""
        removed: set[tuple[str, str]] = set()
        keeps = []
        # Quotas come outermost first: a removed layer is known before its heads are chosen.
        for quota, state in zip(self.quotas, self.states, strict=True):
            keep = quota.keep(
                self._method.scores(state),
                allowed=allowed(quota, removed) if removed else None,
            )
            for site, span in zip(quota.units.sites, quota.units.slices, strict=True):
                if site.kind in WHOLE and not keep[span].any():
                    removed.add(site.key)
            keeps.append(keep)
        return torch.cat(keeps)

    def decision(self, progress: Mapping[str, Any]) -> Decision:
        """The current decision, exact.

        Args:
            progress: how far the training is, for the provenance.
        """
        keep = self.keep()
        reached: dict[str, Any] = {}
        for quota, span in zip(self.quotas, self._spans, strict=True):
            reached |= quota.reached(keep[span])
        provenance = {**self.provenance, "budget": self.budget.describe(), **progress, **reached}
        return Decision.of(self.units, keep, self.scores(), provenance)

    @contextmanager
    def at(self, budget: Budget) -> Iterator[None]:
        """Use another budget of the same units inside the block; the scores stay.

        Raises:
            BudgetError: the model cannot meet the budget, or the budget is about other units.
        """
        quotas = budget.quotas(self._found, additive=self._method.additive)
        about = [[site.key for site in quota.units.sites] for quota in quotas]
        if about != [[site.key for site in quota.units.sites] for quota in self.quotas]:
            raise BudgetError(
                f"decisions([{budget}]): the session has scores for {self.budget} only. Give "
                "budgets of the same kinds at the same places."
            )
        before = self.budget, self.quotas
        try:
            self._ask(budget, quotas)
            yield
        finally:
            self._ask(*before)

    def _ask(self, budget: Budget, quotas: tuple[Quota, ...]) -> None:
        self.budget, self.quotas = budget, quotas
        for state, quota in zip(self.states, quotas, strict=True):
            cast(State, state).quota = quota

    def metrics(self, step: Step) -> dict[str, float]:
        """The method's numbers for the log; of several quotas, after kind and place."""
        named = {}
        for quota, state in zip(self.quotas, self.states, strict=True):
            place = [quota.units.sites[0].kind, *quota.place.split(".")]
            front = [] if len(self.quotas) == 1 else [part for part in place if part]
            for name, value in self._method.metrics(state, step).items():
                named["_".join([*front, name])] = value
        return named
