"""All removable units of one model, in a fixed order."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from headcount.door.arguments import checks_arguments
from headcount.errors import ArchitectureError
from headcount.units.kinds import KINDS
from headcount.units.site import Site

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

PLACES = ("encoder", "decoder", "self", "cross", "ffn", "layer")
"""The names of places that any model may have. Towers are named by their modules."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One removable unit: number ``index`` of its site, from 0."""

    site: Site
    index: int


@dataclass(frozen=True)
class UnitTable:
    """Every removable unit of a model: site after site, unit after unit.

    Vectors over units (gates, scores, keeps) follow this order and have ``len(table)`` elements.

    Example:
        >>> import headcount as hc, transformers
        >>> table = hc.units(transformers.BertModel(transformers.BertConfig()))
        >>> sorted(table.kinds), table.num("head"), len(table.only("head"))
        (['head', 'layer', 'neuron', 'sublayer'], 144, 144)
    """

    sites: tuple[Site, ...]
    """The sites, in the order of the model."""
    num_params: int | None = field(default=None, compare=False)
    """Parameters of the whole model; None if unknown, or if sites share weights."""
    left_out: tuple[str, ...] = field(default=(), compare=False)
    """The model's attention and feed-forward networks that no row of the architecture tables
    describes. No budget counts them, and they are never cut."""
    elsewhere: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """All place names of the full table, kept by sub-tables so that errors can list them."""

    def __len__(self) -> int:
        return sum(site.num_units for site in self.sites)

    def __iter__(self) -> Iterator[Unit]:
        return (Unit(site=site, index=i) for site in self.sites for i in range(site.num_units))

    @property
    def kinds(self) -> set[str]:
        """The kinds of unit that the model has."""
        return {site.kind for site in self.sites}

    def num(self, kind: str) -> int:
        """The number of units of one kind; 0 if the model has none.

        Raises:
            ArchitectureError: the kind is unknown.
        """
        _check_kinds("num", kind)
        return sum(site.num_units for site in self.sites if site.kind == kind)

    def only(self, *kinds: str) -> "UnitTable":
        """The sub-table with the units of the given kinds.

        Raises:
            ArchitectureError: a kind is unknown.
        """
        _check_kinds("only", *kinds)
        return self._part(tuple(site for site in self.sites if site.kind in kinds))

    @checks_arguments
    def at(self, place: str) -> "UnitTable":
        """The sub-table with the units at a place.

        Args:
            place: ``self``, ``cross``, ``ffn``, ``layer``, ``encoder``, ``decoder``, or the name of
                a tower such as ``text_model``. Several, joined by dots (``decoder.cross``), must
                all hold. Empty: everything.

        Raises:
            ArchitectureError: a name is neither one of these nor a tower of the model.
        """
        known = dict.fromkeys((*PLACES, *sorted(self._known)))
        unknown = [name for name in place.split(".") if name not in known] if place else []
        if unknown:
            raise ArchitectureError(
                f"UnitTable.at({place!r}): {unknown[0]!r} is no place. Give one of "
                f"{', '.join(known)}, or several joined by dots."
            )
        return self._part(self._at(place))

    @checks_arguments
    def has(self, place: str) -> bool:
        """Whether there are units at a place, named as for ``at``. False for an unknown place.

        Example:
            >>> import headcount as hc, transformers
            >>> table = hc.units(transformers.BertModel(transformers.BertConfig()))
            >>> table.has("encoder.self"), table.has("cross"), table.has("nowhere")
            (True, False, False)
        """
        return bool(self._at(place))

    def _at(self, place: str) -> tuple[Site, ...]:
        wanted = set(place.split(".")) if place else set()
        return tuple(site for site in self.sites if wanted <= set(self._names_of(site)))

    def _part(self, sites: tuple[Site, ...]) -> "UnitTable":
        return replace(self, sites=sites, elsewhere=self._known)

    @property
    def _known(self) -> frozenset[str]:
        return self.elsewhere.union(*(self._names_of(site) for site in self.sites))

    @property
    def places(self) -> tuple[str, ...]:
        """The place names of these units, without those that their kind says already."""
        # "layer" and "ffn" say no more than the kind does, except for sublayers.
        found = dict.fromkeys(name for site in self.sites for name in self._names_of(site))
        said = {"layer"} if self.kinds == {"sublayer"} else {"layer", "ffn"}
        return tuple(name for name in found if name not in said)

    @staticmethod
    def _names_of(site: Site) -> tuple[str, ...]:
        return (site.stack, site.branch, *(site.tower.split(".") if site.tower else ()))

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The span of each site's units in a vector over all units."""
        ends = torch.tensor([0] + [site.num_units for site in self.sites]).cumsum(0).tolist()
        return tuple(slice(a, b) for a, b in pairwise(ends))

    @cached_property
    def layers(self) -> tuple[tuple[str, str, int], ...]:
        """The layers that hold units, as (tower, stack, index), in order; [L]."""
        return tuple(dict.fromkeys(site.layer_key for site in self.sites))

    @cached_property
    def layer_of_unit(self) -> "Int[Tensor, ' n']":
        """The position in ``layers`` of each unit's layer, [N]."""
        place = {layer: i for i, layer in enumerate(self.layers)}
        return torch.tensor(
            [place[site.layer_key] for site in self.sites for _ in range(site.num_units)],
            dtype=torch.long,
        )

    @cached_property
    def num_per_layer(self) -> tuple[int, ...]:
        """The number of units in each of ``layers``, [L]."""
        return tuple(torch.bincount(self.layer_of_unit, minlength=len(self.layers)).tolist())


def _check_kinds(call: str, *kinds: str) -> None:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ArchitectureError(
            f"UnitTable.{call}({unknown[0]!r}): no kind of unit. Give one of {', '.join(KINDS)}."
        )
