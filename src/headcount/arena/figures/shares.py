"""Draw how much each method keeps in each layer: one panel for each method and budget."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headcount.arena.axis import in_title
from headcount.arena.figures.heads import draw_legend, draw_panel
from headcount.arena.figures.style import INK, LABEL_SIZE, page, save
from headcount.arena.grid import DENSE
from headcount.arena.result import KeptSite, Result
from headcount.units.kinds import KIND

# Lengths in inches.
_WIDE, _HIGH, _GAP, _TOP, _BOTTOM, _RIGHT, _LETTER = 0.62, 0.13, 0.3, 0.55, 0.95, 0.3, 0.076
_TITLE = 1.25
_NARROWEST = 5.2


def draw_shares(results: Sequence[Result], path: Path) -> None:
    """Draw a PNG of the share of units that each layer keeps. Layers go down, kinds across.

    The share is the mean over seeds. Sublayers have a column for each part of a layer.

    Args:
        results: finished cells; dense ones are left out.
        path: the PNG file.

    Example:
        >>> import tempfile
        >>> site = KeptSite(module="layer.0", kind="neuron", layer="0", num=2, whole=4)
        >>> result = Result(method="dsp", amount=2, axis="neurons", seed=0, described={},
        ...     units={"neuron": (2,)}, sites=(site,), quality=0.5, num_steps=10, train_s=1.5,
        ...     digest="0123", environment={})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     draw_shares([result], Path(folder) / "kept.png")
        ...     (Path(folder) / "kept.png").read_bytes()[1:4]
        b'PNG'
    """
    pruned = [result for result in results if result.method != DENSE]
    methods = list(dict.fromkeys(result.method for result in pruned))
    amounts = sorted({result.amount or 0 for result in pruned}, reverse=True)
    layers = list(dict.fromkeys(site.layer for result in pruned for site in result.sites))
    columns = list(dict.fromkeys(_column(site) for result in pruned for site in result.sites))
    panels: dict[tuple[str, float], list[np.ndarray]] = {}
    for result in pruned:
        shares = _shares(result, layers, columns)
        panels.setdefault((result.method, result.amount or 0), []).append(shares)
    left = 0.35 + _LETTER * max(len(method) for method in methods) + 0.25
    across, down = max(len(columns) * _WIDE, 0.4), len(layers) * _HIGH
    step = max(across + _GAP, _TITLE)
    wanted = left + len(amounts) * step + _RIGHT
    width = max(wanted, _NARROWEST)
    left += (width - wanted) / 2
    high = _TOP + len(methods) * (down + _GAP) + _BOTTOM
    figure = page(width, high)
    for row, method in enumerate(methods):
        for number, amount in enumerate(amounts):
            x, y = left + number * step, _TOP + row * (down + _GAP)
            axes = figure.add_axes((x / width, 1 - (y + down) / high, across / width, down / high))
            found = panels.get((method, amount))
            mean = None if found is None else np.mean(found, axis=0)
            draw_panel(axes, mean, (len(layers), len(columns)))
            axes.tick_params(length=0, pad=3)
            if row == 0:
                axes.set_title(
                    in_title(pruned[0].axis, amount), fontsize=LABEL_SIZE, color=INK, pad=4
                )
            if number == 0:
                axes.set_ylabel(
                    method, rotation=0, ha="right", va="center", fontsize=LABEL_SIZE, color=INK
                )
            if row == len(methods) - 1:
                axes.set_xticks(
                    np.arange(len(columns)) + 0.5, columns, fontsize=LABEL_SIZE - 1.5, color=INK
                )
    text = "share that is kept, mean of {seeds}; layers from top to bottom"
    draw_legend(figure, pruned, ends=("none", "all"), text=text)
    save(figure, path)


def _column(site: KeptSite) -> str:
    """The heading of a site's column."""
    return site.branch if site.kind == "sublayer" else KIND[site.kind].nouns


def _shares(result: Result, layers: Sequence[str], columns: Sequence[str]) -> np.ndarray:
    """The share of units kept, [layers, columns]; nan where there is no unit."""
    kept, whole = np.zeros((2, len(layers), len(columns)))
    for site in result.sites:
        place = layers.index(site.layer), columns.index(_column(site))
        kept[place] += site.num
        whole[place] += site.whole
    return np.divide(kept, whole, out=np.full_like(kept, np.nan), where=whole > 0)
