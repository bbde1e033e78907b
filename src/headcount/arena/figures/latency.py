"""Draw quality against measured latency: one point for each method and budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from headcount.arena.axis import HEADS, Amount, in_column
from headcount.arena.figures.style import (
    INK,
    LABEL_SIZE,
    PALE,
    Style,
    dress,
    page,
    save,
    styles,
)
from headcount.arena.grid import DENSE
from headcount.arena.latency import Latency
from headcount.arena.summary import Line

_WIDTH, _HEIGHT = 7.4, 4.6
_DENSE = Style(color=INK, mark="h", dash="-")


def draw_latency(
    lines: Sequence[Line],
    latencies: Mapping[tuple[str, Amount | None], Latency],
    path: Path,
    *,
    metric: str,
    axis: str = HEADS,
    looks: Mapping[str, Style] | None = None,
    greater_is_better: bool = True,
) -> None:
    """Draw a PNG of mean quality against latency relative to the dense model.

    Bars are one standard deviation over seeds. The numbers are the budgets; a number that would
    cover another is left out. The grey line joins the points that no other beats: the Pareto front.

    Args:
        lines: means and standard deviations.
        latencies: (method, amount) -> latency; lines without one are not drawn.
        path: the PNG file.
        metric: name of the metric.
        axis: the comparison's axis.
        looks: method -> style, if several figures should share their styles.
        greater_is_better: whether more of the metric is better.

    Example:
        >>> import tempfile
        >>> latency = Latency(ratio=0.5, ratio_quartiles=(0.4, 0.6), median_s=0.01)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "latency.png"
        ...     draw_latency([Line.of("dsp", 6, [0.7])], {("dsp", 6): latency}, path, metric="acc")
        ...     path.read_bytes()[1:4]
        b'PNG'
    """
    figure = page(_WIDTH, _HEIGHT)
    axes = figure.add_axes((0.1, 0.13, 0.62, 0.8))
    dress(axes)
    points = [
        _Point(x=latencies[key].ratio, y=line.mean, line=line)
        for line in lines
        if (key := (line.method, line.amount)) in latencies
    ]
    # Turned over, less of an error is more quality.
    sign = 1 if greater_is_better else -1
    front = [(x, sign * y) for x, y in pareto([(point.x, sign * point.y) for point in points])]
    axes.plot(*zip(*front, strict=True), color=PALE, linewidth=6, alpha=0.3, zorder=1)
    methods = dict.fromkeys(point.line.method for point in points if point.line.amount is not None)
    known = looks or styles(methods)
    looks = {**{method: known[method] for method in methods}, DENSE: _DENSE}
    for method, look in looks.items():
        _draw_method([point for point in points if point.line.method == method], axes, look)
    axes.autoscale_view()  # or places on the page would be those of other limits
    # Numbers are placed in this order, so points on the front get theirs first.
    _number(sorted(points, key=lambda point: (point.x, point.y) not in front), axes, looks, axis)
    keys = [
        Line2D([], [], marker=look.mark, color=look.color, label=method)
        for method, look in looks.items()
    ]
    for key, look in zip(keys, looks.values(), strict=True):
        key.set(linestyle=look.dash)
    keys.append(Line2D([], [], color=PALE, linewidth=6, alpha=0.3, label="Pareto front"))
    axes.legend(
        handles=keys, loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False,
        fontsize=LABEL_SIZE, labelcolor=INK,
    )  # fmt: skip
    axes.set_xlabel("latency, share of the dense model's", color=INK, fontsize=LABEL_SIZE + 1)
    axes.set_ylabel(metric, color=INK, fontsize=LABEL_SIZE + 1)
    save(figure, path)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class _Point:
    x: float
    y: float
    line: Line


def _draw_method(points: Sequence[_Point], axes: Axes, look: Style) -> None:
    across, up = [point.x for point in points], [point.y for point in points]
    spreads = [point.line.std or 0.0 for point in points]
    axes.errorbar(
        across, up, yerr=spreads, color=look.color, linewidth=0.9, alpha=0.45, zorder=2,
        linestyle=look.dash,
    )  # fmt: skip
    axes.plot(
        across, up, marker=look.mark, color=look.color, markersize=6, zorder=3, linestyle="",
        markeredgecolor="white", markeredgewidth=0.6,
    )  # fmt: skip


def _number(points: Sequence[_Point], axes: Axes, looks: Mapping[str, Style], axis: str) -> None:
    """Write the budgets beside the points. A number that would cover an earlier one is left out."""
    figure = axes.get_figure(root=True)
    renderer = cast(FigureCanvasAgg, cast(Figure, figure).canvas).get_renderer()
    taken: list[Bbox] = []
    for point in points:
        if point.line.amount is None:
            continue
        text = axes.annotate(
            in_column(axis, point.line.amount),
            (point.x, point.y),
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=LABEL_SIZE - 2,
            color=looks[point.line.method].color,
        )
        box = text.get_window_extent(renderer)
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats, by being as fast and better, or as good and faster.

    Args:
        points: (latency, quality); less latency and more quality are better.

    Returns:
        These points, from fast to slow.

    Example:
        >>> pareto([(1.0, 0.9), (0.5, 0.8), (0.6, 0.7)])
        [(0.5, 0.8), (1.0, 0.9)]
    """
    front: list[tuple[float, float]] = []
    # From fast to slow, a point is on the front if it is better than all faster ones.
    for latency, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or quality > front[-1][1]:
            front.append((latency, quality))
    return front
