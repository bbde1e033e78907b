"""What came out of a cell: a value with a JSON form."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Self, final

from headcount.arena.grid import Cell
from headcount.arena.output import saved_result
from headcount.door.files import checked
from headcount.door.shape import Count, Finite, Matching, Positive, fit
from headcount.errors import CheckpointError
from headcount.runs.run import RESULT_FILE

Bits = Annotated[str, Matching("[01]*", "a text of 0 and 1")]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came out of a cell.

    Example:
        >>> result = Result(method="dsp", heads=2, seed=0, described={"name": "dsp"},
        ...     num_heads=2, heads_per_layer=(2, 0), keep={"layer.0": "1010", "layer.1": "0000"},
        ...     quality=0.5, num_steps=10, train_s=1.5, digest="0123", environment={})
        >>> Result.of(result.plain()) == result, result.cell.name
        (True, 'dsp-2-0')
    """

    method: str
    """Name of the method, or ``dense``."""
    heads: Count | None
    """Heads asked; None for all of them."""
    seed: Count
    """Seed of everything random."""
    described: Mapping[str, Any]
    """Name and settings of the method."""
    num_heads: Count
    """Heads, recounted from the shapes of the saved weights."""
    heads_per_layer: tuple[Count, ...]
    """The same for each layer."""
    keep: Mapping[str, Bits]
    """For each module with heads: ``1`` where a head stays, ``0`` where not."""
    quality: Finite
    """The task's number on the evaluation data."""
    num_steps: Count
    """Optimizer steps until the decision."""
    train_s: Positive
    """Seconds of them, or of looking at data, and of asking a teacher; of the last sitting."""
    digest: str
    """Short name of the specification, ``cell.json``."""
    environment: Mapping[str, Any]
    """Versions and machine."""
    quality_once: Finite | None = None
    """The same number as decided, before any training of the cut model; None for methods that
    train the weights while they decide."""
    recover_steps: Count = 0
    """Optimizer steps after the cut."""
    recover_s: Positive = 0.0
    """Seconds of them."""
    correct: Bits | None = None
    """Right (``1``) or wrong (``0``), evaluation example by example; None where that is unknown."""
    only_class: str | None = None
    """The label that every evaluation example is given, if it is one and the same."""
    adopted: bool = False
    """Whether the run was trained elsewhere."""
    command: str | None = None
    """The command line."""

    @property
    def cell(self) -> Cell:
        """The cell."""
        return Cell(method=self.method, heads=self.heads, seed=self.seed)

    def plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {**asdict(self), "heads_per_layer": list(self.heads_per_layer)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Read what ``plain`` gave."""
        names = [field.name for field in fields(cls) if field.name in plain]
        return fit({name: plain[name] for name in names}, cls, plain=True)


def read_result(folder: Path) -> Result:
    """The result of a finished cell.

    Raises:
        CheckpointError: there is none.
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
