"""Draw quality against heads kept: one line for each method, with a band for its spread."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

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
    lines: Sequence[Line], path: Path, *, metric: str, looks: Mapping[str, Style] | None = None
) -> None:
    """Draw a PNG of mean quality against heads kept, with fewer heads to the right.

    Bands are one standard deviation over seeds to either side. The dashed line is the dense model.
    With a single number of heads, methods stand side by side.

    Args:
        lines: means and standard deviations.
        path: the PNG file.
        metric: name of the metric.
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
    _scale(lines, axes)
    _draw_dense(lines, axes)
    _label(lines, axes, looks, shifts)
    axes.set_xlabel("heads kept", color=INK, fontsize=LABEL_SIZE + 1)
    axes.set_ylabel(metric, color=INK, fontsize=LABEL_SIZE + 1)
    save(figure, path)


def _shifts(lines: Sequence[Line], methods: Sequence[str]) -> dict[str, float]:
    """Method -> how far from its number of heads it is drawn; 0 unless there is a single number."""
    several = len({line.heads for line in lines if line.heads is not None}) > 1
    step = 0.0 if several else -1.2 / max(len(methods), 2)
    return {method: (i - (len(methods) - 1) / 2) * step for i, method in enumerate(methods)}


def _draw_method(lines: Sequence[Line], axes: Axes, look: Style, shift: float) -> None:
    heads = [(line.heads or 0) + shift for line in lines]
    means = [line.mean for line in lines]
    axes.plot(
        heads,
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
        axes.errorbar(heads, means, yerr=spreads, color=look.color, capsize=2.5, linewidth=1)
        return
    low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
    high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
    axes.fill_between(heads, low, high, color=look.color, alpha=0.11, linewidth=0, zorder=2)


def _scale(lines: Sequence[Line], axes: Axes) -> None:
    """Scale the axis of heads: fewer to the right, and logarithmic from a factor of four on."""
    heads = sorted({line.heads for line in lines if line.heads is not None}, reverse=True)
    if not heads:
        axes.set_xticks([])
        return
    if heads[-1] > 0 and heads[0] >= 4 * heads[-1]:
        axes.set_xscale("log", base=2)
        low, high = heads[-1] / 1.08, heads[0] * 1.08
    else:
        margin = 0.04 * (heads[0] - heads[-1]) or 1.0
        low, high = heads[-1] - margin, heads[0] + margin
    axes.set_xlim(high, low)
    axes.set_xticks(heads, [str(k) for k in heads])
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
        if line.heads is not None:
            ends[line.method] = (line.heads + shifts[line.method], line.mean)
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
