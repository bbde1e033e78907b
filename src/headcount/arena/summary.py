"""Statistics over the finished cells: means, standard deviations, differences."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from headcount.arena.axis import Amount
from headcount.arena.grid import DENSE
from headcount.arena.result import Result
from headcount.maths.bootstrap import paired_difference

Resampled = Literal["seeds and examples", "examples", "seeds", "nothing"]
"""What the bootstrap of a difference resamples."""
BOOTSTRAP_SEED = 0


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Quality of one method with one budget, over seeds.

    Example:
        >>> Line.of("dsp", 12, [0.5, 0.7]).mean
        0.6
    """

    method: str
    """Name of the method, or ``dense``."""
    amount: Amount | None
    """What was asked for, of the comparison's axis; None for everything."""
    num_seeds: int
    """Number of finished seeds."""
    mean: float
    """Mean over these seeds."""
    std: float | None
    """Standard deviation over these seeds, with n - 1 in the denominator; None for one seed."""
    least: float
    """The least quality of any seed."""
    greatest: float
    """The greatest quality of any seed."""
    once_mean: float | None = None
    """Mean right after the cut, before the cut model is trained; None for methods that train the
    weights while they decide."""
    once_std: float | None = None
    """Standard deviation right after the cut; None as above, and for one seed."""

    @classmethod
    def of(
        cls,
        method: str,
        amount: Amount | None,
        values: Sequence[float],
        once: Sequence[float] = (),
    ) -> "Line":
        """A line from the qualities of all seeds; ``once`` has those right after the cut."""
        return cls(
            method=method,
            amount=amount,
            num_seeds=len(values),
            mean=statistics.mean(values),
            std=_std(values),
            least=min(values),
            greatest=max(values),
            once_mean=statistics.mean(once) if once else None,
            once_std=_std(once),
        )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Two methods compared with one budget, seed by seed.

    Example:
        >>> Difference(method="random", amount=12, num_seeds=2, mean=-0.1, low=-0.2, high=0.0,
        ...            resampled="seeds and examples").mean
        -0.1
    """

    method: str
    """Name of the method."""
    amount: Amount
    """What was asked for, of the comparison's axis."""
    num_seeds: int
    """Number of seeds that both methods have finished."""
    mean: float
    """Mean difference over these seeds. Above zero, ``method`` is better than the other, if
    more of the metric is better."""
    low: float | None
    """Lower end of the 95% interval; None if there is nothing to resample."""
    high: float | None
    """Upper end of the interval."""
    resampled: Resampled
    """What the bootstrap resamples."""


def lines(results: Iterable[Result]) -> list[Line]:
    """Mean and standard deviation of each method with each budget.

    Args:
        results: finished cells.

    Returns:
        The lines, methods in the order of their first results, most units first.
    """
    return [
        Line.of(
            method,
            amount,
            [result.quality for result in own],
            [result.quality_once for result in own if result.quality_once is not None],
        )
        for (method, amount), own in _grouped(results).items()
    ]


def differences(results: Sequence[Result], against: str) -> list[Difference]:
    """Each method compared with ``against``, for each budget that both have.

    Args:
        results: finished cells.
        against: name of the method that the others are compared with.

    Returns:
        The differences, in the order of ``lines``.
    """
    groups = _grouped(results)
    found = []
    for (method, amount), own in groups.items():
        other = {result.seed: result for result in groups.get((against, amount), ())}
        pairs = [(result, other[result.seed]) for result in own if result.seed in other]
        if amount is not None and method != against and pairs:
            found.append(_difference(method, amount, pairs))
    return found


def _difference(method: str, amount: Amount, pairs: Sequence[tuple[Result, Result]]) -> Difference:
    # If every run says which examples it had right, and all of the same data, examples are paired.
    # Otherwise each run is one number, and only seeds can be resampled.
    texts = [result.correct for pair in pairs for result in pair if result.correct is not None]
    whole = len(texts) == 2 * len(pairs) and len({len(text) for text in texts}) == 1
    if whole:
        tables = [np.array([_bits(pair[side].correct or "") for pair in pairs]) for side in (0, 1)]
    else:
        tables = [np.array([[pair[side].quality] for pair in pairs]) for side in (0, 1)]
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    interval = paired_difference(*tables, generator=generator)
    several = len(pairs) > 1
    resampled: Resampled = (
        ("seeds and examples" if several else "examples")
        if whole
        else ("seeds" if several else "nothing")
    )
    known = resampled != "nothing"
    return Difference(
        method=method,
        amount=amount,
        num_seeds=len(pairs),
        mean=interval.mean,
        low=interval.low if known else None,
        high=interval.high if known else None,
        resampled=resampled,
    )


def _bits(correct: str) -> np.ndarray:
    return (np.frombuffer(correct.encode(), dtype=np.uint8) == ord("1")).astype(np.float64)


def _grouped(results: Iterable[Result]) -> Mapping[tuple[str, Amount | None], list[Result]]:
    """Results by method and amount: dense first, then each method, the greatest amount first."""
    everything = list(results)
    methods = list(dict.fromkeys(result.method for result in everything))
    groups: dict[tuple[str, Amount | None], list[Result]] = {}
    for result in sorted(
        everything,
        key=lambda r: (r.method != DENSE, methods.index(r.method), -(r.amount or 0), r.seed),
    ):
        groups.setdefault((result.method, result.amount), []).append(result)
    return groups


def _std(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
