"""Magnitude: heads with large weights stay."""

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
    """Scores each head by the L2 norm of its slices of the value and output projections.

    If several kinds compete for a budget of parameters, MACs or latency, the norm is divided by the
    square root of the unit's number of parameters. Otherwise large units would win by their size.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> hc.decide(model, hc.Magnitude(), hc.Budget(heads=5)).num_kept
        5

    Source: magnitude pruning (Han et al. 2015, arXiv 1506.02626), applied to heads.
    Differs: the norm of a whole head instead of the size of single weights.
    """

    evidence: ClassVar[frozenset[str]] = frozenset({"weight_norms"})

    @property
    def name(self) -> str:
        """``magnitude``."""
        return "magnitude"

    def init(self, quota: Quota, generator: Generator) -> FixedState:
        """The factors of the scores; ``observe`` multiplies them by the norms of the weights."""
        units = quota.units
        sizes = torch.ones(len(units), dtype=torch.float64)
        if len(units.kinds) > 1:
            for site, span in zip(units.sites, units.slices, strict=True):
                sizes[span] = max(site.cost.params, 1)
        return FixedState(1 / sizes.sqrt(), quota)

    def observe(self, state: FixedState, evidence: Evidence) -> None:
        """Multiply the factors by the norms of the weights."""
        if evidence.weight_norms is None:
            raise PruningError("Magnitude.observe: the evidence has no weight_norms.")
        state.get_buffer("scores").mul_(evidence.weight_norms)
