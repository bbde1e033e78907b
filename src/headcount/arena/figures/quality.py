"""Draw quality against what is kept: one line for each method, with a band for its spread."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from headcount.arena.axis import HEADS, in_column, in_words
from headcount.arena.figures.style import (
    INK,
    LABEL_SIZE,
    PALE,
    Style,
    dress,
    page,
    save,
    spread_out,
    styles,
)
from headcount.arena.grid import DENSE
from headcount.arena.summary import Line

_WIDTH, _HEIGHT, _GAP = 7.4, 4.6, 0.052


def draw_quality(
    lines: Sequence[Line],
    path: Path,
    *,
    metric: str,
    axis: str = HEADS,
    looks: Mapping[str, Style] | None = None,
) -> None:
    """Draw a PNG of mean quality against what is kept, with less to the right.

    Bands are one standard deviation over seeds to either side. The dashed line is the dense model.
    With a single budget, methods stand side by side.

    Args:
        lines: means and standard deviations.
        path: the PNG file.
        metric: name of the metric.
        axis: the comparison's axis.
        looks: method -> style, if several figures should share their styles.

    Example:
        >>> import tempfile
        >>> lines = [Line.of("dense", None, [0.9]), Line.of("dsp", 6, [0.7, 0.8])]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     draw_quality(lines, Path(folder) / "quality.png", metric="accuracy")
        ...     (Path(folder) / "quality.png").read_bytes()[1:4]
        b'PNG'
    """
    figure = page(_WIDTH, _HEIGHT)
    axes = figure.add_axes((0.1, 0.13, 0.64, 0.8))
    dress(axes)
    methods = dict.fromkeys(line.method for line in lines if line.method != DENSE)
    known = looks or styles(methods)
    looks = {method: known[method] for method in methods}
    shifts = _shifts(lines, list(looks))
    for method, look in looks.items():
        own = [line for line in lines if line.method == method]
        _draw_method(own, axes, look, shifts[method])
    amounts = sorted({line.amount for line in lines if line.amount is not None}, reverse=True)
    _scale(amounts, axes, axis)
    _draw_dense(lines, axes)
    _label(lines, axes, looks, shifts)
    axes.set_xlabel(in_words(axis, amounts), color=INK, fontsize=LABEL_SIZE + 1)
    axes.set_ylabel(metric, color=INK, fontsize=LABEL_SIZE + 1)
    save(figure, path)


def _shifts(lines: Sequence[Line], methods: Sequence[str]) -> dict[str, float]:
    """Method -> how far from its amount it is drawn; 0 unless there is a single amount."""
    several = len({line.amount for line in lines if line.amount is not None}) > 1
    step = 0.0 if several else -1.2 / max(len(methods), 2)
    return {method: (i - (len(methods) - 1) / 2) * step for i, method in enumerate(methods)}


def _draw_method(lines: Sequence[Line], axes: Axes, look: Style, shift: float) -> None:
    across = [(line.amount or 0) + shift for line in lines]
    means = [line.mean for line in lines]
    axes.plot(
        across,
        means,
        color=look.color,
        linestyle=look.dash,
        marker=look.mark,
        markersize=5,
        linewidth=1.7,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=3,
    )
    spreads = [line.std or 0.0 for line in lines]
    if len(lines) == 1:
        axes.errorbar(across, means, yerr=spreads, color=look.color, capsize=2.5, linewidth=1)
        return
    low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
    high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
    axes.fill_between(across, low, high, color=look.color, alpha=0.11, linewidth=0, zorder=2)


def _scale(amounts: Sequence[float], axes: Axes, axis: str) -> None:
    """Scale the axis: less to the right, and logarithmic from a factor of four on."""
    if not amounts:
        axes.set_xticks([])
        return
    if amounts[-1] > 0 and amounts[0] >= 4 * amounts[-1]:
        axes.set_xscale("log", base=2)
        low, high = amounts[-1] / 1.08, amounts[0] * 1.08
    else:
        margin = 0.04 * (amounts[0] - amounts[-1]) or 1.0
        low, high = amounts[-1] - margin, amounts[0] + margin
    axes.set_xlim(high, low)
    axes.set_xticks(amounts, [in_column(axis, k) for k in amounts])
    axes.minorticks_off()


def _draw_dense(lines: Sequence[Line], axes: Axes) -> None:
    dense = next((line for line in lines if line.method == DENSE), None)
    if dense is None:
        return
    axes.axhline(dense.mean, color=INK, linestyle=(0, (5, 3)), linewidth=1.1, zorder=1)
    spread = dense.std or 0.0
    axes.axhspan(dense.mean - spread, dense.mean + spread, color=INK, alpha=0.06, linewidth=0)


def _label(
    lines: Sequence[Line], axes: Axes, looks: Mapping[str, Style], shifts: Mapping[str, float]
) -> None:
    """Write the name of each line at its end. Names that would overlap are moved apart."""
    ends: dict[str, tuple[float, float]] = {}  # method -> x and y of its last point
    for line in lines:
        if line.amount is not None:
            ends[line.method] = (line.amount + shifts[line.method], line.mean)
    dense = next((line.mean for line in lines if line.method == DENSE), None)
    to_axes = axes.transData + axes.transAxes.inverted()
    right = axes.get_xlim()[1]
    if dense is not None:
        ends[DENSE] = (right, dense)
    points = {name: to_axes.transform(point) for name, point in ends.items()}
    places = spread_out([float(p[1]) for p in points.values()], _GAP, 0.0, 1.0)
    for (name, (x, y)), place in zip(points.items(), places, strict=True):
        color = looks[name].color if name in looks else INK
        axes.annotate(
            name,
            xy=(float(x), float(y)),
            xytext=(1.06, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=color,
            fontsize=LABEL_SIZE,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.6, "shrinkB": 3},
        )
