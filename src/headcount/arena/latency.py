"""Measure the latency of the cells' models, relative to the dense model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict, final

import transformers
from transformers import AutoConfig, PreTrainedModel

from headcount.arena.axis import HEADS, Amount
from headcount.arena.grid import DENSE
from headcount.arena.output import read_json, write_json
from headcount.arena.recount import Example
from headcount.arena.result import Result
from headcount.checkpoints.loading import loading
from headcount.door.arguments import check_fields
from headcount.door.shape import Positive
from headcount.errors import PruningError
from headcount.reports.measure import Summary, Told, environment, example_batch, latency_s, summary

LATENCY_FILE = "latency.json"
TOGETHER = 8
"""Number of models in memory at a time, beside the dense one."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How latency is measured.

    Example:
        >>> Timing(batch=1, length=32).num_runs
        20

    Raises:
        PruningError: a number is out of range.
    """

    batch: int = 8
    """Examples in a forward pass."""
    length: int = 64
    """Tokens of each example."""
    num_runs: int = 20
    """Timed forward passes of each model; 0 measures nothing."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch < 1 or self.length < 1 or self.num_runs < 0:
            raise PruningError(
                f"Timing(batch={self.batch}, length={self.length}, num_runs={self.num_runs}): give "
                "1 or more, and 0 or more runs."
            )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """The latency of one shape.

    Example:
        >>> Latency(ratio=0.5, ratio_quartiles=(0.4, 0.6), median_s=0.01).ratio
        0.5
    """

    ratio: Positive
    """Seconds of this shape over seconds of the dense one, the median over rounds."""
    ratio_quartiles: tuple[Positive, Positive]
    """Lower and upper quartile of this ratio."""
    median_s: Positive
    """Median seconds of a forward pass."""


def shape_of(result: Result) -> str:
    """The shape of a cell's model: the number of heads of each layer, or of units of each site.

    Models of one shape have the same latency, whichever units they keep.
    """
    if result.axis == HEADS:  # as in files of older versions
        return " ".join(map(str, result.units["head"]))
    counts: dict[str, list[str]] = {}
    for site in result.sites:
        counts.setdefault(site.kind, []).append(str(site.num))
    return ", ".join(f"{kind} {' '.join(numbers)}" for kind, numbers in counts.items())


def firsts(results: Iterable[Result]) -> list[Result]:
    """For each method and amount, the result with the lowest seed."""
    found: dict[tuple[str, Amount | None], Result] = {}
    for result in sorted(results, key=lambda result: result.seed):
        found.setdefault((result.method, result.amount), result)
    return list(found.values())


def measure_latency(
    results: Sequence[Result],
    path: Path,
    timing: Timing,
    told: Told = lambda done, total: None,
    rounds: Told | None = None,
    example: Example = example_batch,
) -> None:
    """Time a model of each new shape, and add the result to ``latency.json``.

    A few models at a time take turns with the dense one: A B C A B C ... Latency does not depend on
    the weights, so the models are made from their configurations, with random weights.

    Args:
        results: finished cells. For each method and amount, the lowest seed is timed.
        path: the folder of the comparison.
        timing: how to measure.
        told: called with the number of shapes done and their total.
        rounds: see ``latency_s``; called for each group of shapes that take turns.
        example: makes the inputs that are timed, such as images; called only if something is.
    """
    dense = next((r for r in firsts(results) if r.method == DENSE), None)
    if dense is None or not timing.num_runs:
        return
    header = {"timing": asdict(timing), "environment": environment()}
    saved = _saved(path)
    # Times of another machine, version or setting cannot be compared with new ones.
    same = all(saved.get(name) == value for name, value in header.items())
    known = {shape: asdict(one) for shape, one in saved["shapes"].items()} if same else {}
    todo = {shape_of(r): r for r in firsts(results)}
    todo = {shape: r for shape, r in todo.items() if shape not in known and r is not dense}
    shapes = list(todo)
    for start in range(0, len(shapes), TOGETHER):
        told(start, len(shapes))
        part = {shape: todo[shape] for shape in shapes[start : start + TOGETHER]}
        models = _models({shape_of(dense): dense, **part}, path)
        inputs = example(models[shape_of(dense)], timing.batch, timing.length)
        samples = latency_s(models, inputs, num_runs=timing.num_runs, warmup=3, told=rounds)
        known |= {
            shape: asdict(_latency(taken, samples[shape_of(dense)]))
            for shape, taken in samples.items()
        }
        write_json(path / LATENCY_FILE, {**header, "shapes": known})
    told(len(shapes), len(shapes))


def read_latency(results: Iterable[Result], path: Path) -> dict[tuple[str, Amount | None], Latency]:
    """The saved latencies: (method, amount) -> latency.

    Example:
        >>> read_latency([], Path("no such folder"))
        {}
    """
    shapes = _saved(path)["shapes"]
    return {
        (result.method, result.amount): shapes[shape_of(result)]
        for result in firsts(results)
        if shape_of(result) in shapes
    }


class _Saved(TypedDict):
    """What is read of ``latency.json``."""

    shapes: dict[str, Latency]


def _saved(path: Path) -> _Saved:
    return read_json(path / LATENCY_FILE, _Saved) or {"shapes": {}}


def _models(shapes: Mapping[str, Result], path: Path) -> dict[str, PreTrainedModel]:
    return {shape: model_of(path / result.cell.name / "model") for shape, result in shapes.items()}


def _latency(taken: Sequence[float], dense: Sequence[float]) -> Latency:
    ratios: Summary = summary([one / other for one, other in zip(taken, dense, strict=True)])
    return Latency(
        ratio=ratios.median,
        ratio_quartiles=(ratios.lower_quartile, ratios.upper_quartile),
        median_s=summary(taken).median,
    )


def model_of(folder: Path) -> PreTrainedModel:
    """A model built from a saved configuration, with random weights."""
    with loading(str(folder)):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    (name,) = config.architectures or ["AutoModel"]
    return getattr(transformers, name)._from_config(config).eval()
