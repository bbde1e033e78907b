"""The figure: written, as large as the model asks for, the same every time."""

import dataclasses
import struct
import sys

import matplotlib.image
import pytest
import torch

import headcount as hc
from cases import with_cross_attention
from headcount.errors import DecisionError
from headcount.reports.heatmap import CELL_INCHES, DOTS_PER_INCH, heat_map
from headcount.reports.panels import panels
from headcount.units.decision import Decision, SiteDecision


def site(layer: int, num_heads: int, module: str = "encoder.layer.{}.attention.self", **changes):
    told = SiteDecision(
        module=module.format(layer),
        kind="head",
        layer=layer,
        stack=module.split(".", maxsplit=1)[0],
        keep=tuple(head % 2 == 0 for head in range(num_heads)),
        scores=tuple(float(layer - head) for head in range(num_heads)),
    )
    return dataclasses.replace(told, **changes)


def grid(num_layers: int, num_heads: int) -> Decision:
    return Decision(sites=tuple(site(layer, num_heads) for layer in range(num_layers)))


def size(path) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


@pytest.mark.parametrize(
    ("num_layers", "num_heads", "cells"),
    [(2, 4, (15.0, 6.9)), (24, 16, (23.8, 28.9))],
)
def test_size_follows_layers_and_heads(tmp_path, num_layers, num_heads, cells):
    heat_map(grid(num_layers, num_heads), tmp_path / "heads.png")
    dots = (cell * CELL_INCHES * DOTS_PER_INCH for cell in cells)
    assert size(tmp_path / "heads.png") == tuple(pytest.approx(dot, abs=1.01) for dot in dots)


def test_a_title_takes_a_line(tmp_path):
    heat_map(grid(2, 4), tmp_path / "without.png")
    heat_map(grid(2, 4), str(tmp_path / "with.png"), title="$2 for _two_ heads " * 20)
    width, height = size(tmp_path / "without.png")
    assert size(tmp_path / "with.png")[0] == width
    assert size(tmp_path / "with.png")[1] > height


def test_the_same_decision_gives_the_same_bytes(tmp_path, decision):
    for name in ("a.png", "b.png"):
        heat_map(decision, tmp_path / name, title="tiny")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def darkness(path) -> float:
    return float((1 - matplotlib.image.imread(path)[..., :3]).mean())


def test_kept_heads_take_more_ink_than_removed_ones(tmp_path):
    ink = []
    for name, kept in (("all", True), ("none", False)):
        sites = tuple(site(layer, 8, keep=(kept,) * 8) for layer in range(8))
        heat_map(Decision(sites=sites), tmp_path / name)
        ink.append(darkness(tmp_path / name))
    assert ink[0] > 3 * ink[1]


def test_the_highest_scores_are_the_darkest(tmp_path):
    """Scores above the 98th percentile are drawn as that percentile, not as the lowest."""
    ink = []
    for name, outlier in (("high", 1e9), ("low", -1e9)):
        scores = (outlier,) * 4 + tuple(range(4))
        sites = tuple(site(layer, 8, scores=scores, keep=(True,) * 8) for layer in range(4))
        heat_map(Decision(sites=sites), tmp_path / name)
        ink.append(matplotlib.image.imread(tmp_path / name)[..., :3])
    left = slice(ink[0].shape[1] // 8, ink[0].shape[1] // 3)
    assert ink[0][:, left].mean() < ink[1][:, left].mean()


@pytest.mark.parametrize(
    "sites",
    [
        (site(0, 1),),
        (site(0, 4), site(1, 9), site(3, 1), site(4, 12)),
        (site(0, 3, scores=(0.5, 0.5, 0.5)),),
        (site(0, 2), site(0, 2, kind="neuron")),
    ],
    ids=["one head", "uneven", "equal scores", "two kinds"],
)
def test_unusual_decisions_are_drawn(tmp_path, sites):
    heat_map(Decision(sites=sites), tmp_path / "heads.png")
    assert size(tmp_path / "heads.png")[0] > 0


def test_encoder_and_decoder_have_panels_of_their_own(tmp_path):
    names = ("encoder.block.{}.layer.0.SelfAttention", "decoder.block.{}.layer.0.SelfAttention")
    cross = "decoder.block.{}.layer.1.EncDecAttention"
    sites = tuple(site(layer, 4, name) for name in (*names, cross) for layer in range(2))
    found = panels(Decision(sites=sites))
    assert [panel.heading for panel in found] == [
        "encoder",
        "decoder SelfAttention",
        "decoder EncDecAttention",
    ]
    assert all(panel.labels == ("0", "1") for panel in found)
    assert [(panel.num_kept, panel.num_units) for panel in found] == [(4, 8)] * 3
    heat_map(Decision(sites=sites), tmp_path / "heads.png")
    heat_map(grid(6, 4), tmp_path / "single.png")
    assert size(tmp_path / "heads.png")[1] > size(tmp_path / "single.png")[1]


def test_one_sort_of_attention_needs_no_heading():
    assert [panel.heading for panel in panels(grid(3, 2))] == [""]


def test_headings_of_names_that_differ_in_length():
    bert = ("decoder.layer.{}.attention.self", "decoder.layer.{}.crossattention.self")
    sites = tuple(site(layer, 2, name) for layer in range(2) for name in bert)
    found = panels(Decision(sites=sites))
    assert [panel.heading for panel in found] == ["decoder attention", "decoder crossattention"]
    nested = ("decoder.a.{}.self", "decoder.a.{}.a.self")
    found = panels(Decision(sites=tuple(site(0, 2, name) for name in nested)))
    assert [panel.heading for panel in found] == ["decoder", "decoder a"]


def test_layers_within_layers_are_told_apart():
    name = "encoder.layers.0.blocks.{}.attention"
    sites = tuple(dataclasses.replace(site(block, 2, name), layer=0) for block in range(2))
    assert panels(Decision(sites=sites))[0].labels == ("0.0", "0.1")


def of_every_kind(*kinds):
    """A decision about a tiny model with cross-attention."""
    units = hc.units(with_cross_attention()).only(*kinds)
    keep = torch.arange(len(units)) % 3 != 0
    return Decision.of(units, keep, torch.rand(len(units)), {})


@pytest.mark.parametrize(
    "kinds",
    [("neuron",), ("layer",), ("sublayer",), ("head", "neuron"),
     ("layer", "sublayer", "head", "neuron")],
    ids=str,
)  # fmt: skip
def test_other_kinds_are_drawn_within_their_page(tmp_path, kinds):
    decision = of_every_kind(*kinds)
    for name in ("a.png", "b.png"):
        heat_map(decision, tmp_path / name, title="of every kind")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    ink = matplotlib.image.imread(tmp_path / "a.png")[..., :3].min(-1) < 0.9
    assert ink.any()
    for edge in (ink[:8], ink[-8:], ink[:, :8], ink[:, -8:]):
        assert not edge.any()
    whole = dataclasses.replace(
        decision,
        sites=tuple(dataclasses.replace(s, keep=(True,) * len(s.keep)) for s in decision.sites),
    )
    heat_map(whole, tmp_path / "whole.png", title="of every kind")
    assert (tmp_path / "whole.png").read_bytes() != (tmp_path / "a.png").read_bytes()


def test_kinds_have_panels_of_their_own():
    found = panels(of_every_kind("sublayer", "neuron"))
    assert sorted(panel.heading for panel in found) == [
        "neurons, decoder",
        "neurons, encoder",
        "sublayers, decoder cross",
        "sublayers, decoder ffn",
        "sublayers, decoder self",
        "sublayers, encoder ffn",
        "sublayers, encoder self",
    ]
    assert {panel.kind for panel in found} == {"neuron", "sublayer"}
    assert sum(panel.num_kept for panel in found) == of_every_kind("sublayer", "neuron").num_kept


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(DecisionError, match="has no units, so there is nothing to draw"):
        heat_map(Decision(sites=()), tmp_path / "heads.png")
    assert not (tmp_path / "heads.png").exists()


def test_drawing_leaves_pyplot_alone(tmp_path, decision):
    heat_map(decision, tmp_path / "heads.png")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
