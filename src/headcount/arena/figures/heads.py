"""Draw which heads each method keeps: one panel for each method and budget."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from headcount.arena.axis import in_title
from headcount.arena.figures.style import INK, LABEL_SIZE, PALE, page, save
from headcount.arena.grid import DENSE
from headcount.arena.result import Result

# One hue from light to dark, as in the picture of one decision.
SHADES = LinearSegmentedColormap.from_list(
    "shares", ["#f1f5f7", "#b3d9e0", "#3f8fae", "#15527f", "#0b2545"]
)
# Lengths in inches.
_TILE, _GAP, _TOP, _BOTTOM, _RIGHT, _LETTER = 0.095, 0.16, 0.62, 0.62, 0.2, 0.076
_NARROWEST = 5.2


def draw_heads(results: Sequence[Result], path: Path) -> None:
    """Draw a PNG of the share of seeds that keep each head. Layers go down, heads across.

    A method that keeps the same heads with every seed shows only the darkest and the lightest
    shade. A random choice shows the shades in between.

    Args:
        results: finished cells, of heads or key-value heads; dense ones are left out.
        path: the PNG file.

    Example:
        >>> import tempfile
        >>> from headcount.arena.result import KeptSite
        >>> site = KeptSite(module="layer.0", kind="head", layer="0", num=2, whole=4, keep="1010")
        >>> result = Result(method="dsp", amount=2, seed=0, described={}, units={"head": (2,)},
        ...     sites=(site,), quality=0.5, num_steps=10, train_s=1.5, digest="0123",
        ...     environment={})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     draw_heads([result], Path(folder) / "heads.png")
        ...     (Path(folder) / "heads.png").read_bytes()[1:4]
        b'PNG'
    """
    pruned = [result for result in results if result.method != DENSE]
    methods = list(dict.fromkeys(result.method for result in pruned))
    heads = sorted({result.amount or 0 for result in pruned}, reverse=True)
    found: dict[tuple[str, float], list[Result]] = {}
    for result in pruned:
        found.setdefault((result.method, result.amount or 0), []).append(result)
    shares = {key: _shares(own) for key, own in found.items()}
    num_layers, num_heads = next(iter(shares.values())).shape
    left = 0.35 + _LETTER * max(len(method) for method in methods)
    # Smaller tiles where all panels of a row would be wider than 16 inches.
    tile = min(_TILE, 16 / (len(heads) * num_heads))
    across, down = num_heads * tile, num_layers * tile
    wanted = left + len(heads) * (across + _GAP) + _RIGHT
    width = max(wanted, _NARROWEST)
    left += (width - wanted) / 2
    figure = page(width, _TOP + len(methods) * (down + _GAP) + _BOTTOM)
    high = float(figure.get_figheight())
    for row, method in enumerate(methods):
        for column, k in enumerate(heads):
            x, y = left + column * (across + _GAP), _TOP + row * (down + _GAP)
            box = (x / width, 1 - (y + down) / high, across / width, down / high)
            axes = figure.add_axes(box)
            draw_panel(axes, shares.get((method, k)), (num_layers, num_heads))
            if row == 0:
                title = in_title(pruned[0].axis, k)
                axes.set_title(title, fontsize=LABEL_SIZE, color=INK, pad=4)
            if column == 0:
                axes.set_ylabel(
                    method, rotation=0, ha="right", va="center", fontsize=LABEL_SIZE, color=INK
                )
    text = "kept, of {seeds}; layers from top to bottom, heads across"
    draw_legend(figure, pruned, ends=("never", "always"), text=text)
    save(figure, path)


def _shares(results: Sequence[Result]) -> np.ndarray:
    """The share of results that keep each head, [sites, heads]; nan where there is no head."""
    tables = []
    for result in results:
        keeps = [site.keep or "" for site in result.sites]
        most = max(map(len, keeps))
        tables.append([[*map(float, keep), *[np.nan] * (most - len(keep))] for keep in keeps])
    return np.mean(tables, axis=0)


def draw_panel(axes: Axes, shares: np.ndarray | None, shape: tuple[int, int]) -> None:
    """Draw the shares of one method and amount.

    Args:
        axes: where.
        shares: numbers between 0 and 1, nan for none, [rows, columns]; None if it was not run.
        shape: rows and columns.
    """
    axes.set(xlim=(0, shape[1]), ylim=(shape[0], 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=PALE, linewidth=0.5)
    if shares is None:
        axes.text(
            0.5, 0.5, "not run", transform=axes.transAxes, ha="center", va="center",
            fontsize=LABEL_SIZE - 1.5, color=PALE,
        )  # fmt: skip
        return
    axes.pcolormesh(
        shares, cmap=SHADES, vmin=0, vmax=1, edgecolor="white", linewidth=0.4, antialiased=True
    )


def draw_legend(
    figure: Figure, results: Sequence[Result], *, ends: tuple[str, str], text: str
) -> None:
    """Draw the scale of shades, and a sentence on how to read the panels.

    Args:
        figure: the figure.
        results: the results in it.
        ends: the words at the lightest and the darkest shade.
        text: the sentence; ``{seeds}`` stands for their number.
    """
    width, high = (float(side) for side in figure.get_size_inches())
    axes = figure.add_axes((0.35 / width, 0.3 / high, 1.5 / width, 0.1 / high))
    axes.pcolormesh(np.linspace(0, 1, 60)[None, :], cmap=SHADES, vmin=0, vmax=1)
    axes.set(xticks=[0, 60], yticks=[])
    axes.set_xticklabels(ends)
    axes.tick_params(length=0, labelsize=LABEL_SIZE - 1, colors=INK, pad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    counts = {len({r.seed for r in results if r.method == m}) for m in {r.method for r in results}}
    seeds = str(counts.pop()) if len(counts) == 1 else f"up to {max(counts)}"
    words = text.format(seeds=f"{seeds} seed{'s' * (seeds != '1')}")
    words = textwrap.fill(words, int((width - 2.1) / _LETTER))
    figure.text(2.1 / width, 0.35 / high, words, fontsize=LABEL_SIZE - 1, color=INK, va="center")
