"""Records: the outcomes of all checks of a model type."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from headcount.door.shape import Count, Positive, fit
from headcount.units.kinds import ALL

State = Literal["ok", "fails", "refused", "none", "unchecked"]

CHECKS: dict[str, str] = {
    "built": "a tiny model is built from its configuration",
    "forward": "its forward pass gives finite numbers",
    "units": "units are found",
    **{
        kind.plural: f"masked = cut, {kind.nouns}, with and without an empty site"
        for kind in reversed(ALL)
    },
    "mixture": "masked = cut, all kinds at once, four ways, empty sites included",
    "twice": "masked = cut on a model that is cut already, one attention of it empty",
    "generate": "masked and cut generate the same tokens, greedily",
    "beams": "masked and cut generate the same tokens with four beams",
    "static": "masked and cut generate the same tokens with a static cache",
    "reload": "saved and reloaded bit for bit, each kind but whole modules",
    "reload_mixture": "saved and reloaded bit for bit, all kinds at once",
    "equal": "saved and reloaded bit for bit, equally many units in every layer, and fewer layers",
    "alone": "loaded where headcount is not imported: right bit for bit, or an error that names it",
    "siblings": "other classes load the folder: nothing they share with it is random, or an error",
    "pickled": "the same outputs after `torch.save` and `torch.load`",
    "macs": "what a unit of each kind costs in MACs is what `torch.utils.flop_counter` counts",
    "onnx": "the cut model exported to ONNX agrees with PyTorch",
}
"""Check, in the order in which they run -> what it shows."""

COLUMNS = tuple(CHECKS)[3:]
"""The checks that have a column in the table."""

EXACT = COLUMNS[:-2]
"""The checks that a type must pass to be exact: all but those of MACs and export."""

DENSE = "the dense model does not"
"""Beginning of the reason if the dense model itself fails a check, so that it says nothing."""

SAME = "as the default"
"""The reason for a variant that turns out to equal the default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The outcome of one check."""

    state: State
    """``ok``; ``fails``; ``refused``: headcount raised an error of its own; ``none``: there is
    nothing to check; ``unchecked``: it did not run."""
    reason: str = ""
    """Why. For a reload that is ok, the rung: ``stock`` or ``import``."""
    seconds: Positive = 0.0
    """The time it took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """The outcomes and facts of one model type.

    Example:
        >>> record = Record(model_type="bert", checks={"built": Outcome(state="ok")})
        >>> Record.of(record.to_dict()) == record
        True
    """

    model_type: str
    """The type, or the name of a variant."""
    model_class: str = ""
    """Class of the tiny model."""
    dtype: str = ""
    """The precision in which masked and cut models were compared."""
    attention: tuple[str, ...] = ()
    """Classes of its attention modules: those named so, and those in which heads were found."""
    units: Mapping[str, Count] = field(default_factory=dict)
    """Number of units of each kind."""
    checks: Mapping[str, Outcome] = field(default_factory=dict)
    """Check -> outcome."""
    running: str = ""
    """The check that is running, by which a crash can be told; empty at the end."""

    def state(self, check: str) -> State:
        """The state of a check; ``unchecked`` if it did not run."""
        return self.checks[check].state if check in self.checks else "unchecked"

    def reason(self, check: str) -> str:
        """The reason of a check's outcome."""
        return self.checks[check].reason if check in self.checks else ""

    @property
    def verdict(self) -> str:
        """The record in a few words: ``exact``, or why it is not.

        Example:
            >>> Record(model_type="bert", checks={"built": Outcome(state="fails")}).verdict
            'not built'
        """
        built, units = self.state("built"), self.state("units")
        if built != "ok":
            return "the default" if built == "none" else "not built"
        if self.state("forward") != "ok":
            return "does not run"
        if units == "none":
            return "not found" if self.attention else "no attention"
        states = {units, *(self.state(check) for check in EXACT)}
        if "fails" in states:
            return "not exact"
        return "refused" if "refused" in states else "exact"

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {**asdict(self), "attention": list(self.attention)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Record":
        """Read what ``to_dict`` made."""
        return fit({**values}, cls, plain=True)
