"""The result of a cell, with its JSON form."""

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
    """The result of a cell.

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
    """Number of heads asked for; None for all."""
    seed: Count
    """Seed of everything random."""
    described: Mapping[str, Any]
    """Name and settings of the method."""
    num_heads: Count
    """Number of heads, counted from the shapes of the saved weights."""
    heads_per_layer: tuple[Count, ...]
    """Number of heads of each layer, counted in the same way."""
    keep: Mapping[str, Bits]
    """Module -> one character for each head: ``1`` if it is kept, ``0`` if it was removed."""
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
        return Cell(method=self.method, heads=self.heads, seed=self.seed)

    def plain(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        return {**asdict(self), "heads_per_layer": list(self.heads_per_layer)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """The result from the values that ``plain`` returned; unknown keys are passed over."""
        names = [field.name for field in fields(cls) if field.name in plain]
        return fit({name: plain[name] for name in names}, cls, plain=True)


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
