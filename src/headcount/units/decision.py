"""What stays and what goes: the value that travels from a method to the surgery."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headcount.errors import DecisionError
from headcount.units.table import UnitTable

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteDecision:
    """The part of a decision about one site."""

    module: str
    """Qualified name of the module that holds the units."""
    kind: str
    """Kind of the units."""
    layer: int
    """Index of the layer in its stack."""
    stack: str
    """``encoder`` or ``decoder``."""
    keep: tuple[bool, ...]
    """True where the unit stays."""
    scores: tuple[float, ...]
    """Importance of each unit, higher = keep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Which units stay, why, and who decided.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=6))
        >>> decision.num_kept, sum(decision.kept_per_layer)
        (6, 6)
        >>> hc.Decision.from_json(decision.to_json()) == decision
        True
    """

    sites: tuple[SiteDecision, ...]
    """One entry for each site of the model, in the order of the unit table."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Method, budget, seed, steps: plain values that JSON can hold."""

    @classmethod
    def of(
        cls,
        units: UnitTable,
        keep: Bool[Tensor, " n"],
        scores: Float[Tensor, " n"],
        provenance: Mapping[str, Any],
    ) -> "Decision":
        """Make a decision out of vectors over a unit table."""
        kept, score = keep.tolist(), scores.detach().double().cpu().tolist()
        sites = tuple(
            SiteDecision(
                module=site.module,
                kind=site.kind,
                layer=site.layer,
                stack=site.stack,
                keep=tuple(kept[span]),
                scores=tuple(score[span]),
            )
            for site, span in zip(units.sites, units.slices, strict=True)
        )
        return cls(sites=sites, provenance=dict(provenance))

    @property
    def num_units(self) -> int:
        """Units decided upon."""
        return sum(len(site.keep) for site in self.sites)

    @property
    def num_kept(self) -> int:
        """Units that stay."""
        return sum(sum(site.keep) for site in self.sites)

    @property
    def kept_per_layer(self) -> tuple[int, ...]:
        """Units that stay in each layer, in order of first appearance."""
        counts: dict[tuple[str, int], int] = {}
        for site in self.sites:
            place = (site.stack, site.layer)
            counts[place] = counts.get(place, 0) + sum(site.keep)
        return tuple(counts.values())

    def keep(self, units: UnitTable) -> Bool[Tensor, " n"]:
        """The keep as a vector over ``units``.

        Raises:
            DecisionError: the decision is about another model.
        """
        mine = [(site.module, site.kind, len(site.keep)) for site in self.sites]
        theirs = [(site.module, site.kind, site.num_units) for site in units.sites]
        if mine != theirs:
            first = next(
                (f"{m} against {t}" for m, t in zip(mine, theirs, strict=False) if m != t),
                f"{len(mine)} sites against {len(theirs)}",
            )
            raise DecisionError(
                f"Decision.keep(units): the decision is about another model; its sites differ "
                f"from the model's: {first}. Decide again on this model."
            )
        return torch.tensor([kept for site in self.sites for kept in site.keep], dtype=torch.bool)

    def to_json(self) -> str:
        """The decision as text; kept units are listed by index."""
        sites = [
            {
                "module": site.module,
                "kind": site.kind,
                "stack": site.stack,
                "layer": site.layer,
                "num_units": len(site.keep),
                "kept": [i for i, kept in enumerate(site.keep) if kept],
                "scores": list(site.scores),
            }
            for site in self.sites
        ]
        head = {"format": FORMAT, "num_units": self.num_units, "num_kept": self.num_kept}
        body = {**head, "provenance": dict(self.provenance), "sites": sites}
        return json.dumps(body, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Decision":
        """Read what ``to_json`` wrote.

        Raises:
            DecisionError: the text is not a decision of this format.
        """
        try:
            body = json.loads(text)
            found = body["format"]
            sites = tuple(_site(entry) for entry in body["sites"]) if found == FORMAT else ()
            provenance = body["provenance"]
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise DecisionError(
                f"Decision.from_json: not a decision ({error!r}). Give what Decision.to_json wrote."
            ) from error
        if found != FORMAT:
            raise DecisionError(
                f"Decision.from_json: format {found!r}; this version of headcount reads {FORMAT}."
            )
        return cls(sites=sites, provenance=provenance)

    def save(self, path: str | Path) -> None:
        """Write the decision to a file."""
        Path(path).write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Decision":
        """Read a decision from a file."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))


def _site(entry: Mapping[str, Any]) -> SiteDecision:
    kept = set(entry["kept"])
    if not kept <= set(range(entry["num_units"])):
        raise ValueError(f"kept units {sorted(kept)} of {entry['num_units']}")
    return SiteDecision(
        module=entry["module"],
        kind=entry["kind"],
        layer=entry["layer"],
        stack=entry["stack"],
        keep=tuple(i in kept for i in range(entry["num_units"])),
        scores=tuple(float(score) for score in entry["scores"]),
    )
