"""The style of a comparison's figures: one colour, mark and dash for each method."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOTS_PER_INCH = 160
INK, PALE, TRACK = "#1b2733", "#7b8794", "#e3e8ec"
LABEL_SIZE = 8.5

# Distinct for every kind of colour vision (after Okabe and Ito); in grey, the marks differ.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6bb1", "#56b4e9", "#b8860b", "#4d4d4d")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "<")
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """How a method is drawn.

    Example:
        >>> styles(["dsp", "random"])["dsp"].mark
        'o'
    """

    color: str
    """Colour of line and mark."""
    mark: str
    """Shape of the marks."""
    dash: str | tuple
    """Dash of the line."""


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """A style for each method.

    Variants of a method, named by a suffix (``+finetuned``, ``, as decided``), have its colour and
    another mark and dash. The ninth method has the colour of the first, also with another mark and
    dash.

    Example:
        >>> looks = styles(["dsp", "random", "dsp+finetuned"])
        >>> looks["dsp+finetuned"].color == looks["dsp"].color
        True
    """
    rows: dict[str, int] = {}  # name without its suffix -> its number
    taken: Counter[str] = Counter()
    found: dict[str, Style] = {}
    for method in methods:
        row = rows.setdefault(re.split("[+,]", method)[0], len(rows)) % len(_COLORS)
        color = _COLORS[row]
        times = taken[color]
        mark, dash = _MARKS[(row + times) % len(_MARKS)], _DASHES[times % len(_DASHES)]
        found[method] = Style(color=color, mark=mark, dash=dash)
        taken[color] += 1
    return found


def page(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, which needs no display."""
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes) -> None:
    """Draw two axes only, a light grid and small numbers."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(PALE)
    axes.grid(color=TRACK, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=LABEL_SIZE, color=PALE, length=3)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG. The same figure gives the same bytes, since no version is written into it."""
    figure.savefig(path, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, in the same order, at least ``gap`` apart, within two ends.

    If the room is too small for this gap, the gap is made smaller.

    Args:
        wanted: the wanted places, in any order.
        gap: least distance between two places.
        low: lowest place.
        high: highest place.

    Returns:
        One place for each wanted one.

    Example:
        >>> spread_out([1.0, 1.0, 5.0], 2.0, 0.0, 10.0)
        [0.0, 2.0, 5.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    # A block is a run of places exactly a gap apart: (lowest place, number of places). From low to
    # high, a new place joins the block below it if it is too close, and moves the block.
    blocks: list[tuple[float, int]] = []
    for i in order:
        start, size = wanted[i], 1
        start = min(max(start, low), high)
        while blocks and blocks[-1][0] + blocks[-1][1] * gap > start + 1e-12:
            before, count = blocks.pop()
            # The mean of what the two want; then back within the ends.
            start = (before * count + (start - count * gap) * size) / (count + size)
            size += count
            start = min(max(start, low), high - (size - 1) * gap)
        blocks.append((start, size))
    places = [start + k * gap for start, size in blocks for k in range(size)]
    return [place for _, place in sorted(zip(order, places, strict=True))]
