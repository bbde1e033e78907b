"""What the finished cells say together: means, spreads, differences."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from headcount.arena.grid import DENSE
from headcount.arena.result import Result
from headcount.maths.bootstrap import paired_difference

Resampled = Literal["seeds and examples", "examples", "seeds", "nothing"]
"""What the interval of a difference is over."""
BOOTSTRAP_SEED = 0


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Quality of one method at one number of heads, over seeds.

    Example:
        >>> Line.of("dsp", 12, [0.5, 0.7]).mean
        0.6
    """

    method: str
    """Name of the method, or ``dense``."""
    heads: int | None
    """Heads asked; None for all of them."""
    num_seeds: int
    """Seeds that are finished."""
    mean: float
    """Mean over them."""
    std: float | None
    """Standard deviation over them, n - 1 in the denominator; None for one seed."""
    least: float
    """Of the worst seed."""
    greatest: float
    """Of the best seed."""
    once_mean: float | None = None
    """Mean as decided, before any training of the cut model, where that is something else."""
    once_std: float | None = None
    """Standard deviation of the same."""

    @classmethod
    def of(
        cls, method: str, heads: int | None, values: Sequence[float], once: Sequence[float] = ()
    ) -> "Line":
        """From the qualities of all seeds."""
        return cls(
            method=method,
            heads=heads,
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
    """A method against another at one number of heads, seed by seed.

    Example:
        >>> Difference(method="random", heads=12, num_seeds=2, mean=-0.1, low=-0.2, high=0.0,
        ...            resampled="seeds and examples").mean
        -0.1
    """

    method: str
    """Name of the method."""
    heads: int
    """Heads asked."""
    num_seeds: int
    """Seeds that both have finished."""
    mean: float
    """Mean over these seeds; above zero, the method is better."""
    low: float | None
    """Lower end of the 95% interval; None where there is nothing to resample."""
    high: float | None
    """Upper end."""
    resampled: Resampled
    """What the interval is over."""


def lines(results: Iterable[Result]) -> list[Line]:
    """Mean and spread of each method at each number of heads.

    Args:
        results: finished cells.

    Returns:
        One line for each; methods in the order of their first result, most heads first.
    """
    return [
        Line.of(
            method,
            heads,
            [result.quality for result in own],
            [result.quality_once for result in own if result.quality_once is not None],
        )
        for (method, heads), own in _grouped(results).items()
    ]


def differences(results: Sequence[Result], against: str) -> list[Difference]:
    """Each method against one of them, at each number of heads that both have.

    Args:
        results: finished cells.
        against: name of the method that the others are compared with.
    """
    groups = _grouped(results)
    found = []
    for (method, heads), own in groups.items():
        other = {result.seed: result for result in groups.get((against, heads), ())}
        pairs = [(result, other[result.seed]) for result in own if result.seed in other]
        if heads is not None and method != against and pairs:
            found.append(_difference(method, heads, pairs))
    return found


def _difference(method: str, heads: int, pairs: Sequence[tuple[Result, Result]]) -> Difference:
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
        heads=heads,
        num_seeds=len(pairs),
        mean=interval.mean,
        low=interval.low if known else None,
        high=interval.high if known else None,
        resampled=resampled,
    )


def _bits(correct: str) -> np.ndarray:
    return (np.frombuffer(correct.encode(), dtype=np.uint8) == ord("1")).astype(np.float64)


def _grouped(results: Iterable[Result]) -> Mapping[tuple[str, int | None], list[Result]]:
    """Results by method and number of heads: all heads first, then ever fewer."""
    everything = list(results)
    methods = list(dict.fromkeys(result.method for result in everything))
    groups: dict[tuple[str, int | None], list[Result]] = {}
    for result in sorted(
        everything,
        key=lambda r: (r.method != DENSE, methods.index(r.method), -(r.heads or 0), r.seed),
    ):
        groups.setdefault((result.method, result.heads), []).append(result)
    return groups


def _std(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
