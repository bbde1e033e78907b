"""The result of a cell, with its JSON form."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Self, TypedDict, final

from headcount.arena.axis import AXES, HEADS, Amount
from headcount.arena.grid import Cell
from headcount.arena.output import saved_result
from headcount.door.files import checked
from headcount.door.shape import Count, Finite, Matching, Misfit, Positive, fit
from headcount.errors import CheckpointError
from headcount.runs.run import RESULT_FILE

Bits = Annotated[str, Matching("[01]*", "a text of 0 and 1")]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class KeptSite:
    """What is left of a site.

    Example:
        >>> KeptSite(module="layer.0", kind="head", layer="0", num=2, whole=4, keep="1010").num
        2
    """

    module: str
    """Name of the module before the cut."""
    kind: str
    """Kind of the units."""
    layer: str
    """The layer: tower, stack and number."""
    branch: str = "self"
    """Part of the layer, see ``Site.branch``."""
    num: Count
    """Units that are kept."""
    whole: Count
    """Units of the dense model."""
    keep: Bits | None = None
    """One character for each unit: ``1`` if it is kept, ``0`` if it was removed; None for kinds
    with many units."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The result of a cell.

    Example:
        >>> site = KeptSite(module="layer.0", kind="head", layer="0", num=2, whole=4, keep="1010")
        >>> result = Result(method="dsp", amount=2, seed=0, described={"name": "dsp"},
        ...     units={"head": (2,)}, sites=(site,), quality=0.5, num_steps=10, train_s=1.5,
        ...     digest="0123", environment={})
        >>> Result.of(result.plain()) == result, result.cell.name
        (True, 'dsp-2-0')
    """

    method: str
    """Name of the method, or ``dense``."""
    amount: Amount | None
    """What was asked for, of the axis; None for everything."""
    seed: Count
    """Seed of everything random."""
    axis: str = HEADS
    """What the amount is of, see ``Cell.axis``."""
    described: Mapping[str, Any]
    """Name and settings of the method."""
    units: Mapping[str, tuple[Count, ...]]
    """Kind -> its units in each layer, counted from the shapes of the saved weights."""
    sites: tuple[KeptSite, ...]
    """What is left, site by site; kinds that the budgets are about."""
    cost: Mapping[str, Any] | None = None
    """The cost that was reached, as in a decision's provenance; None for numbers of units."""
    quality: Finite
    """The task's metric on the evaluation data."""
    num_steps: Count
    """Optimizer steps up to the decision."""
    train_s: Positive
    """Seconds of these steps or of looking at data, with those of the teacher. After a resume, only
    those since then."""
    digest: str
    """Digest of the specification, ``cell.json``."""
    environment: Mapping[str, Any]
    """Versions and machine."""
    quality_once: Finite | None = None
    """The metric right after the cut, before the cut model is trained; None for methods that train
    the weights while they decide."""
    recover_steps: Count = 0
    """Optimizer steps after the cut."""
    recover_s: Positive = 0.0
    """Seconds of these steps."""
    correct: Bits | None = None
    """One character for each evaluation example: ``1`` right, ``0`` wrong; None if not known."""
    only_class: str | None = None
    """The label, if the model gives every evaluation example the same one."""
    adopted: bool = False
    """Whether the run was trained elsewhere."""
    command: str | None = None
    """The command line."""

    @property
    def cell(self) -> Cell:
        """The cell of this result."""
        return Cell(method=self.method, amount=self.amount, seed=self.seed, axis=self.axis)

    def plain(self) -> dict[str, Any]:
        """The result as values that JSON can hold; the axis is the key of the amount."""
        known = asdict(self)
        del known["axis"], known["amount"]
        return json.loads(json.dumps({**self.cell.plain(), **known}))

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The result from the values that ``plain`` returned; unknown keys are passed over.

        Results of older versions, which are about heads only, are read too.
        """
        axes = [axis for axis in AXES if axis in plain]
        if len(axes) != 1:
            raise Misfit(axes, f"one of {', '.join(AXES)}")
        known = {**plain, "axis": axes[0], "amount": plain[axes[0]]}
        if "heads_per_layer" in plain:
            known |= _of_heads(fit({**plain}, _OfHeads, plain=True))
        names = [field.name for field in fields(cls) if field.name in known]
        return fit({name: known[name] for name in names}, cls, plain=True)


class _OfHeads(TypedDict):
    """What older versions have written about the heads."""

    heads_per_layer: list[Count]
    keep: dict[str, Bits]


def _of_heads(old: _OfHeads) -> dict[str, Any]:
    sites = [
        {
            "module": module,
            "kind": "head",
            "layer": str(i),
            "num": keep.count("1"),
            "whole": len(keep),
            "keep": keep,
        }
        for i, (module, keep) in enumerate(old["keep"].items())
    ]
    return {"units": {"head": old["heads_per_layer"]}, "sites": sites}


def read_result(folder: Path) -> Result:
    """The result of a finished cell.

    Raises:
        CheckpointError: there is no result, or it is damaged.
    """
    found = saved_result(folder)
    if not found:
        raise CheckpointError(
            f"read_result({str(folder)!r}): no result of a finished cell there. Give the folder of "
            "a cell that headcount compare has finished."
        )
    give = f"Delete {RESULT_FILE} there, and compare runs the cell again."
    with checked(f"read_result({str(folder)!r}): {RESULT_FILE}", give=give):
        return Result.of(found)
