"""A picture of a decision: which units stay, layer by layer."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.text import Text

from headcount.errors import DecisionError
from headcount.reports.panels import Panel, panels
from headcount.reports.wording import kept_words
from headcount.units.decision import Decision, SiteDecision
from headcount.units.kinds import KIND

CELL_INCHES = 0.3
DOTS_PER_INCH = 160

# One hue from light to dark, so that the order is visible with colour blindness and in grey print.
# Kept and removed heads also differ in size.
_SHADES = LinearSegmentedColormap.from_list(
    "headcount", ["#b3d9e0", "#3f8fae", "#15527f", "#0b2545"]
)
_INK, _PALE, _TRACK = "#1b2733", "#7b8794", "#e3e8ec"

# Lengths, in cells.
_LEFT, _RIGHT, _MIN_WIDTH, _BAR = 2.2, 5.6, 15.0, 2.6
_EDGE, _TITLE, _SUMMARY, _HEADING, _NUMBERS, _LEGEND = 0.6, 1.0, 1.2, 1.4, 1.0, 2.1
_KEPT, _REMOVED = 0.84, 0.3
_LONG = 12
"""Least columns beside a bar for many units."""
_TITLE_SIZE, _SIZE = 12, 9.5  # points


def heat_map(decision: Decision, path: str | Path, title: str | None = None) -> None:
    """Draw layers by heads as a PNG: kept heads large, removed ones small and faint.

    The shade shows the score. It is linear between the 2nd and the 98th percentile of all scores,
    so that one outlier does not make all others look alike. The bars at the right show how many
    heads each layer keeps. Encoder, decoder and cross-attention each have a panel.

    Other kinds have panels of their own: a tile for each sublayer and layer, and one bar for the
    neurons of a network, as long as the share that stays. Scores of several kinds do not compare,
    so then the shade says nothing.

    Args:
        decision: the decision to draw; layers may differ in their number of heads.
        path: the PNG file.
        title: a line at the top. The line with the number of kept heads is always drawn.

    Raises:
        DecisionError: the decision has no units.

    Example:
        >>> import tempfile
        >>> site = SiteDecision(module="layer.0", kind="head", layer=0, stack="encoder",
        ...                     keep=(True, False), scores=(2.0, 1.0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     heat_map(Decision(sites=(site,)), Path(folder) / "heads.png")
        ...     (Path(folder) / "heads.png").read_bytes()[1:4]
        b'PNG'
    """
    if decision.num_units == 0:
        raise DecisionError(
            "heat_map(decision): the decision has no units, so there is nothing to draw. "
            "Give a decision about a model with heads."
        )
    page = _Page(decision, title)
    page.draw()
    page.save(path)


class _Page:
    """One page. Coordinates are in cells, from the top left."""

    def __init__(self, decision: Decision, title: str | None) -> None:
        self.decision, self.title, self.panels = decision, title, panels(decision)
        tiled = [site for site in decision.sites if not _is_many(site)]
        self.most = max([len(site.keep) for site in tiled], default=0)
        one_each = self.most == 1 and len(self.panels) > 1  # then headings need the room
        long = len(tiled) < len(decision.sites) or one_each
        self.num_columns = max(self.most, _LONG if long else 0)
        # The page is never narrower than the legend; a narrow map is then centred.
        wanted = _LEFT + self.num_columns + _RIGHT
        self.width = max(wanted, _MIN_WIDTH)
        self.left = _LEFT + (self.width - wanted) / 2
        headings = sum(_HEADING + _NUMBERS if panel.heading else _NUMBERS for panel in self.panels)
        top = _EDGE + _SUMMARY + (_TITLE if title else 0)
        self.height = top + headings + len(decision.sites) + _LEGEND
        self.low, self.high = _limits(tiled)
        size = (self.width * CELL_INCHES, self.height * CELL_INCHES)
        self.figure = Figure(figsize=size, dpi=DOTS_PER_INCH, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        self.axes.set_axis_off()

    def draw(self) -> None:
        y = _EDGE
        if self.title:
            text = self._text(self.width / 2, y + 0.3, self.title, size=_TITLE_SIZE, weight="bold")
            self._fit(text, _TITLE_SIZE)
            y += _TITLE
        summary = f"{kept_words(self.decision)} kept"
        color = _PALE if self.title else _INK
        self._fit(self._text(self.width / 2, y + 0.3, summary, size=_SIZE, color=color), _SIZE)
        y += _SUMMARY
        for panel in self.panels:
            y = self._panel(panel, y)
        self._legend(y + _LEGEND / 2)

    def save(self, path: str | Path) -> None:
        # Without the version of matplotlib, the same decision gives the same bytes.
        self.figure.savefig(path, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})

    def _panel(self, panel: Panel, y: float) -> float:
        right = self.left + self.num_columns + 0.7
        if panel.heading:
            total = f"{panel.num_kept} of {panel.num_units}"
            self._text(self.left, y + 0.8, panel.heading, size=9, weight="bold", ha="left")
            self._text(right, y + 0.8, total, size=8, color=_PALE, ha="left")
            y += _HEADING
        self._text(self.left - 0.5, y + 0.5, "layer", size=7, color=_PALE, ha="right")
        many = _is_many(panel.sites[0])
        for head in range(0 if many else max(len(site.keep) for site in panel.sites)):
            self._text(self.left + head + 0.5, y + 0.5, str(head), size=7, color=_PALE)
        y += _NUMBERS
        for label, site in zip(panel.labels, panel.sites, strict=True):
            self._text(self.left - 0.5, y + 0.5, label, ha="right")
            if many:
                self._share(site, right, y + 0.5)
            else:
                self._heads(site, y + 0.5)
                self._total(site, right, y + 0.5)
            y += 1
        return y

    def _heads(self, site: SiteDecision, y: float) -> None:
        for head, (kept, score) in enumerate(zip(site.keep, site.scores, strict=True)):
            span = self.high - self.low
            share = (score - self.low) / span if span else 0.6
            self._tile(self.left + head + 0.5, y, kept, share)

    def _tile(self, x: float, y: float, kept: bool, share: float) -> None:
        side, alpha = (_KEPT, 1.0) if kept else (_REMOVED, 0.45)
        tile = FancyBboxPatch(
            (x - side / 2, y - side / 2),
            side,
            side,
            boxstyle=f"round,pad=0,rounding_size={0.2 * side}",
            facecolor=_SHADES(min(max(share, 0.0), 1.0)),
            alpha=alpha,
            linewidth=0,
        )
        self.axes.add_patch(tile)

    def _share(self, site: SiteDecision, x: float, y: float) -> None:
        """A bar across the columns for the share that is kept, on a track for all units."""
        total, size = sum(site.keep), len(site.keep)
        for share, color in ((1.0, _TRACK), (total / max(size, 1), _SHADES(0.6))):
            length = self.num_columns * share
            self.axes.add_patch(Rectangle((self.left, y - 0.3), length, 0.6, color=color, lw=0))
        self._text(x, y, f"{total}/{size}", ha="left")

    def _total(self, site: SiteDecision, x: float, y: float) -> None:
        """A bar as long as the number of kept heads, on a track for all heads of the layer."""
        total, size = sum(site.keep), len(site.keep)
        if self.most == 1 or KIND[site.kind].whole:  # the one tile says it all
            return
        for count, color in ((size, _TRACK), (total, _INK)):
            length = _BAR * count / self.most
            self.axes.add_patch(Rectangle((x, y - 0.13), length, 0.26, color=color, lw=0))
        self._text(x + _BAR + 0.4, y, f"{total}/{size}", ha="left")

    def _legend(self, y: float) -> None:
        has_scale = self.low < self.high
        x = self.width / 2 - (6.6 if has_scale else 3.3)
        self._tile(x + 0.5, y, True, 0.6)
        self._text(x + 1.2, y, "kept", ha="left")
        self._tile(x + 3.4, y, False, 0.6)
        self._text(x + 3.9, y, "removed", ha="left")
        if has_scale:
            self._text(x + 9.3, y, f"score ≤ {_signed(self.low)}", ha="right")
            for i in range(40):
                strip = Rectangle((x + 9.6 + i / 20, y - 0.2), 1 / 19, 0.4)
                strip.set(color=_SHADES(i / 39), linewidth=0)
                self.axes.add_patch(strip)
            self._text(x + 11.9, y, f"≥ {_signed(self.high)}", ha="left")

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 8,
        ha: str = "center",
        **style: str,
    ) -> Text:
        place = {"ha": ha, "va": "center_baseline", "parse_math": False}
        return self.axes.text(x, y, text, fontsize=size, **{"color": _INK, **place, **style})

    def _fit(self, text: Text, size: float) -> None:
        """Shrink a text that is wider than the page."""
        room = (self.width - 2 * _EDGE) * CELL_INCHES * DOTS_PER_INCH
        extent = text.get_window_extent(self.canvas.get_renderer()).width
        text.set_fontsize(size * min(1, room / extent))


def _is_many(site: SiteDecision) -> bool:
    """Whether a site has too many units for a tile each."""
    return not (KIND[site.kind].drawn or KIND[site.kind].whole)


def _limits(sites: Sequence[SiteDecision]) -> tuple[float, float]:
    """The scores that get the lightest and the darkest shade; equal if they do not compare."""
    scores = [score for site in sites for score in site.scores]
    if len({site.kind for site in sites}) != 1:
        return 0.0, 0.0
    levels = torch.tensor([0.02, 0.98], dtype=torch.float64)
    low, high = torch.tensor(scores, dtype=torch.float64).quantile(levels).tolist()
    return low, high


def _signed(value: float) -> str:
    return f"{value:.2g}".replace("-", "\N{MINUS SIGN}")
