"""Magnitude: the weights themselves rank the heads."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from headcount.errors import PruningError
from headcount.evidence.evidence import Evidence
from headcount.methods.fixed import FixedMethod, FixedState
from headcount.units.quota import Quota


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Magnitude(FixedMethod):
    """Score of a head: the L2 norm of its slices of the value and output projections.

    Where several kinds compete for a budget of parameters, MACs or latency, the norm is divided by
    the root of the unit's number of parameters: else the larger units would win by their size.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> hc.decide(model, hc.Magnitude(), hc.Budget(heads=5)).num_kept
        5

    Source: magnitude pruning (Han et al. 2015, arXiv 1506.02626), taken head by head.
    Differs: a norm over whole heads instead of single weights.
    """

    evidence: ClassVar[frozenset[str]] = frozenset({"weight_norms"})

    @property
    def name(self) -> str:
        """``magnitude``."""
        return "magnitude"

    def init(self, quota: Quota, generator: Generator) -> FixedState:
        """No scores yet, but for the sizes to divide by: the norms come with the evidence."""
        units = quota.units
        sizes = torch.ones(len(units), dtype=torch.float64)
        if len(units.kinds) > 1:
            for site, span in zip(units.sites, units.slices, strict=True):
                sizes[span] = max(site.cost.params, 1)
        return FixedState(1 / sizes.sqrt(), quota)

    def observe(self, state: FixedState, evidence: Evidence) -> None:
        """Take the norms of the weights as scores."""
        if evidence.weight_norms is None:
            raise PruningError("Magnitude.observe: the evidence has no weight_norms.")
        state.get_buffer("scores").mul_(evidence.weight_norms)
