"""The report: what was asked, the results, and the machine; a value with a JSON form."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headcount.door.arguments import check_fields, check_value
from headcount.door.atomic import write_text
from headcount.door.files import checked, parse_format, read_text
from headcount.door.shape import Count, Misfit, fit
from headcount.errors import CheckpointError, PruningError
from headcount.units.kinds import KINDS, renamed_budget

FORMAT = 3
"""The format of reports that this version writes."""
FILE = "report.json"
"""Name of the report in a saved folder."""
DENSE = "dense"
"""Name of the row with which the others are compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The numbers of one model. None: not measured.

    Example:
        >>> row = Row(name="dsp", units={"head": (3, 0), "neuron": (64, 64)}, num_params=1000)
        >>> row.num("neuron"), row.num_heads, row.heads_per_layer
        (128, 3, (3, 0))

    Raises:
        PruningError: a kind is unknown, or a number is negative or not finite.
    """

    name: str
    """``dense``, or the short name of a method."""
    units: Mapping[str, tuple[Count, ...]]
    """Kind -> units of each layer, counted from the weights, [L]."""
    num_params: Count
    """Parameters, shared ones counted once."""
    quality: float | None = None
    """The report's metric on the evaluation data."""
    num_bytes: int | None = None
    """Size of the weights on disk."""
    macs: int | None = None
    """MACs of one forward pass of a batch, counted with eager attention."""
    latency_s: float | None = None
    """Median seconds of one forward pass of a batch."""
    latency_quartiles_s: tuple[float, float] | None = None
    """Lower and upper quartile of the same timings."""
    train_s: float | None = None
    """Seconds of training."""
    only_class: str | None = None
    """The predicted label, if the model predicts the same one for every evaluation example."""

    def __post_init__(self) -> None:
        check_fields(self, but=("num_params",))
        unknown = [kind for kind in self.units if kind not in KINDS]
        if unknown:
            raise PruningError(
                f"Row(name={self.name!r}, units={{{unknown[0]!r}: ...}}): give kinds of "
                f"{', '.join(KINDS)}."
            )
        # JSON has no infinities or nan. A quality may be negative, such as a correlation.
        counts = ("num_params", "num_bytes", "macs", "latency_s", "train_s")
        values = {name: getattr(self, name) for name in (*counts, "quality")}
        for name, value in values.items():
            wrong = value is not None and not math.isfinite(value)
            if wrong or (value is not None and name in counts and value < 0):
                raise PruningError(
                    f"Row(name={self.name!r}, {name}={value!r}): give a finite number"
                    f"{', 0 or more' if name in counts else ''}, or None if there is none."
                )

    def num(self, kind: str) -> int:
        """The number of units of a kind; 0 if the model has none."""
        return sum(self.units.get(kind, ()))

    @property
    def num_heads(self) -> int:
        """The number of heads."""
        return self.num("head")

    @property
    def heads_per_layer(self) -> tuple[int, ...]:
        """Heads of each layer, [L]."""
        return self.units.get("head", ())


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All numbers of one pruning run, and the settings that reproduce them.

    Example:
        >>> dense = Row(name="dense", units={"head": (4, 4)}, num_params=1000)
        >>> report = Report(task="sst2", metric="accuracy", budget={"heads": 3},
        ...                 method={"name": "dsp"}, seed=0, num_steps=100, batch_size=8,
        ...                 length=128, attn_implementation="sdpa", rows=(dense,), environment={})
        >>> Report.from_json(report.to_json()) == report
        True

    Raises:
        PruningError: there is no row, two rows have the same name, or a kind is unknown.
    """

    task: str
    """The task that the model was evaluated on."""
    metric: str
    """Name of the quality measure, for instance ``accuracy``."""
    greater_is_better: bool = True
    """Whether more of it is better; False for perplexity or an error rate."""
    budget: Mapping[str, Any]
    """The fields of the ``Budget``."""
    method: Mapping[str, Any]
    """Name and settings of the method: plain values that JSON can hold."""
    kinds: tuple[str, ...] = ("head",)
    """The kinds of unit that the budget is about."""
    seed: int
    """Seed of the run."""
    num_steps: int
    """Optimizer steps of the training."""
    batch_size: int
    """Sequences in the batch that was timed and counted."""
    length: int
    """Tokens of each of these sequences."""
    attn_implementation: str
    """The attention implementation that was timed. MACs are always counted with eager."""
    rows: tuple[Row, ...]
    """One row for each model."""
    environment: Mapping[str, Any]
    """Versions and machine, from ``measure.environment``."""
    device: str | None = None
    """The device that was timed, ``cpu`` or ``cuda``."""
    num_runs: int | None = None
    """The number of timed forward passes of each model."""
    command: str | None = None
    """The command line that reproduces this report."""
    cost: Mapping[str, Any] | None = None
    """Under a budget of a cost: what was asked and what the decision reached, as in its provenance.
    For a latency, ``reached`` is the prediction of the table, and ``measured`` the latency of the
    saved model as a share of the dense one's, timed for this report."""

    def __post_init__(self) -> None:
        check_fields(self)
        names = [row.name for row in self.rows]
        if not names or len(set(names)) < len(names):
            raise PruningError(
                f"Report(rows=...): the rows are named {names}. Give at least one row, each with "
                "a name of its own."
            )

        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise PruningError(
                f"Report(kinds={self.kinds}): {unknown[0]!r} is no kind of unit. Give some of "
                f"{', '.join(KINDS)}."
            )

    @property
    def dense(self) -> Row | None:
        """The row of the unpruned model, if it was measured."""
        return next((row for row in self.rows if row.name == DENSE), None)

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Read what ``to_json`` wrote.

        Raises:
            CheckpointError: the text is not a report of this format.
        """
        return parse_format(
            text,
            cls,
            version=FORMAT,
            call="Report.from_json",
            what="a report",
            older={1: lambda body: _of_heads(_renamed(body)), 2: _of_heads},
        )

    def save(self, folder: str | Path) -> None:
        """Write ``report.json`` into a folder."""
        write_text(Path(folder) / FILE, self.to_json() + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> "Report":
        """Read ``report.json`` of a folder; the same as ``report_of``."""
        return report_of(folder)


def _renamed(body: dict[str, Any]) -> dict[str, Any]:
    """Give the budget of a report of format 1 the names of today."""
    return body | {"budget": renamed_budget(body.get("budget"))}


def _of_heads(body: dict[str, Any]) -> dict[str, Any]:
    """The values of a report of format 2, whose rows tell of heads only.

    Raises:
        Misfit: the heads of the layers do not add up to their number.
    """
    rows = body.get("rows")
    for i, row in enumerate(rows if isinstance(rows, list) else ()):
        if not isinstance(row, dict) or not {"num_heads", "heads_per_layer"} <= row.keys():
            continue
        counts = fit(row.pop("heads_per_layer"), list[Count], plain=True)
        total = row.pop("num_heads")
        if total != sum(counts):
            raise Misfit(total, f"the {sum(counts)} of its layers", place=f"rows[{i}].num_heads")
        row["units"] = {"head": counts}
    return body


def report_of(folder: str | Path) -> Report:
    """The report of a saved model, from its folder alone.

    Args:
        folder: the folder with the weights, the decision and ``report.json``.

    Raises:
        CheckpointError: there is no report in the folder, or it is damaged.

    Example:
        >>> report_of("no/such/folder")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        headcount.errors.CheckpointError: report_of('no/such/folder'): no report.json there. ...
    """
    check_value("report_of", "folder", folder, str | Path)
    path = Path(folder) / FILE
    if not path.is_file():
        raise CheckpointError(
            f"report_of({str(folder)!r}): no {FILE} there. Give the folder of a model that was "
            "saved with its report."
        )
    call = f"report_of({str(folder)!r}): {FILE} is damaged"
    with checked(call, give="Take the folder as it was saved, or measure anew with evaluate."):
        return Report.from_json(read_text(path))
