"""A table of latencies: the time of each site by its number of units, measured on one machine."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from headcount.door.arguments import check_fields, check_value
from headcount.door.atomic import write_text
from headcount.door.files import checked, parse_format, read_text
from headcount.door.shape import Count
from headcount.errors import PruningError
from headcount.units.kinds import KIND, new_name
from headcount.units.site import Site

FORMAT = 3
"""The format of files that this version writes."""
NUM_CELLS = 4096
"""Costs are multiples of the dense model's latency divided by this number. So few different costs
keep the exact choice fast. Savings are rounded down: no keep is predicted faster than measured."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The time of sites with the same shape, by their number of units.

    Example:
        >>> curve = Curve(kind="head", modules=("layer.0",), counts=(0, 2, 4), costs_ns=(0, 60, 80))
        >>> curve.at(3)
        70.0
        >>> curve = Curve(kind="neuron", modules=("layer.0",), counts=(0, 32), costs_ns=(0, 64),
        ...     multiple_of=16)
        >>> curve.at(15), curve.at(16), curve.at(17)
        (32.0, 32.0, 64.0)

    Raises:
        PruningError: the counts do not rise from 0, or the costs do not start at 0, or they fall;
            or ``multiple_of`` is 0.
    """

    kind: str
    """The kind of the units."""
    modules: tuple[str, ...]
    """The modules of the sites, all of the same shape."""
    counts: tuple[Count, ...]
    """The measured numbers of units, from 0 to all."""
    costs_ns: tuple[Count, ...]
    """For each of them, nanoseconds of a site beyond those of a site without units."""
    unit_params: Count = 0
    """Parameters of one unit, which tells sites of different widths apart; 0: not known."""
    multiple_of: Count = 1
    """Any number of units costs as much as the next multiple of this, which is no slower on the
    machine. So a choice by cost fills up to multiples."""

    def __post_init__(self) -> None:
        check_fields(self, but=("costs_ns",))
        check_value("Curve", "costs_ns", self.costs_ns, tuple[int, ...])
        # The exact choice needs costs that never fall. latency_table averages those that do.
        rising = all(a < b for a, b in zip(self.counts, self.counts[1:], strict=False))
        falls = any(a > b for a, b in zip(self.costs_ns, self.costs_ns[1:], strict=False))
        starts = [self.counts[:1], self.costs_ns[:1]] == [(0,), (0,)]
        if len(self.counts) != len(self.costs_ns) or not rising or falls or not starts:
            raise PruningError(
                f"Curve(counts={self.counts}, costs_ns={self.costs_ns}): give counts that rise "
                "from 0, and for each a cost, from 0, that does not fall."
            )
        if not self.multiple_of:
            raise PruningError("Curve(multiple_of=0): give 1 or more.")

    def at(self, count: int) -> float:
        """The cost of any number of units, interpolated linearly between the measured ones."""
        rounded = -(-count // self.multiple_of) * self.multiple_of
        return float(np.interp(min(rounded, self.counts[-1]), self.counts, self.costs_ns))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyTable:
    """The latency of a model on one machine, and the part of each of its sites.

    Example:
        >>> curve = Curve(kind="head", modules=("layer.0",), counts=(0, 4), costs_ns=(0, 80))
        >>> table = LatencyTable(whole_ns=100, curves=(curve,), batch=8, length=64)
        >>> LatencyTable.from_json(table.to_json()) == table
        True
    """

    whole_ns: Count
    """Median nanoseconds of a forward pass of the whole model."""
    curves: tuple[Curve, ...]
    """The time of its sites."""
    batch: Count
    """Sequences in the pass."""
    length: Count
    """Tokens of each sequence."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """The machine and the versions of software."""
    corrections: tuple[tuple[float, float], ...] = ()
    """(Predicted, measured) latencies of cut models, as shares of the whole model's, by which the
    curves were scaled; see ``corrected``. Empty: as measured site by site."""

    def __post_init__(self) -> None:
        check_fields(self)

    def corrected(
        self, timed: Sequence[tuple[float, float]], *, margin: float = 0.0
    ) -> "LatencyTable":
        """The table with all curves scaled, so that it predicts what was measured.

        Args:
            timed: for each cut model, its latency as predicted by this table, and measured beside
                the whole model; both as shares of the whole model's latency. The savings are
                scaled by one factor, by least squares.
            margin: the new table predicts so much more than was measured.

        Returns:
            The new table. Its curves together never exceed the latency of the whole model.

        Raises:
            PruningError: no model was timed; or by the measurements there is no saving.

        Example:
            >>> curve = Curve(kind="head", modules=("layer.0",), counts=(0, 4), costs_ns=(0, 80))
            >>> table = LatencyTable(whole_ns=100, curves=(curve,), batch=8, length=64)
            >>> table.corrected([(0.5, 0.6)]).curves[0].costs_ns
            (0, 64)
        """
        squares = sum((1 - predicted) ** 2 for predicted, _ in timed)
        products = sum((1 - predicted) * (1 - measured - margin) for predicted, measured in timed)
        if products <= 0:
            raise PruningError(
                f"LatencyTable.corrected({[*timed]}, margin={margin!r}): these models are not "
                "faster than the whole one. Give shares of the whole latency, predicted and "
                "measured, below 1."
            )
        full = sum(curve.costs_ns[-1] * len(curve.modules) for curve in self.curves)
        scale = min(products / squares, self.whole_ns / max(1, full))
        # Rounded down, so that the curves together stay within the whole.
        curves = tuple(
            replace(curve, costs_ns=tuple(int(scale * cost) for cost in curve.costs_ns))
            for curve in self.curves
        )
        return replace(self, curves=curves, corrections=(*self.corrections, *timed))

    def steps(self, site: Site) -> np.ndarray:
        """Nanoseconds of a site with 0, 1, ... of its units, rounded to the table's cells.

        Raises:
            PruningError: no such site was measured.
        """
        for curve in self.curves:
            same = curve.kind == site.kind and curve.counts[-1] == site.num_units
            as_wide = curve.unit_params in (0, site.cost.params)
            if same and as_wide and site.module in curve.modules:
                # Rounding the savings, not the costs, makes a keep rather too slow than too fast.
                saved = [curve.costs_ns[-1] - curve.at(k) for k in range(site.num_units + 1)]
                cell = max(1, self.whole_ns // NUM_CELLS)
                cells = (np.array(saved) // cell).astype(np.int64)
                return (cells[0] - cells) * cell
        raise PruningError(
            f"Budget(latency=...): the table has no measurement of {site.num_units} "
            f"{KIND[site.kind].nouns} in {site.module} with {site.cost.params} parameters each. "
            "Measure this model, with these kinds: latency_table(model, kinds=...)."
        )

    def describe(self) -> dict[str, Any]:
        """A summary as plain values, with a digest that identifies the table."""
        digest = hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
        return {
            "whole_ns": self.whole_ns,
            "batch": self.batch,
            "length": self.length,
            "digest": digest,
        }

    def to_json(self) -> str:
        """The table as JSON text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "LatencyTable":
        """Read what ``to_json`` wrote.

        Raises:
            CheckpointError: the text is no table of this format.
        """
        return parse_format(
            text,
            cls,
            version=FORMAT,
            call="LatencyTable.from_json",
            what="a table of latencies",
            older={1: _renamed, 2: lambda body: body},  # 3 only has more fields
        )

    def save(self, path: str | Path) -> None:
        """Write the table to a file."""
        write_text(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "LatencyTable":
        """Read a table from a file.

        Raises:
            CheckpointError: the file does not exist, or does not hold a table.
        """
        check_value("LatencyTable.load", "path", path, str | Path)
        give = "Give a file that LatencyTable.save wrote."
        with checked(f"LatencyTable.load({str(path)!r})", give=give):
            return cls.from_json(read_text(path))


def _renamed(body: dict[str, Any]) -> dict[str, Any]:
    """The content of a file of format 1 with today's names of kinds."""
    curves = body.get("curves")
    if isinstance(curves, list):
        for curve in curves:
            if isinstance(curve, dict) and "kind" in curve:
                curve["kind"] = new_name(curve["kind"])
    return body
