import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from headcount.arena.figures.heads import _shares, draw_heads
from headcount.arena.figures.latency import draw_latency, pareto
from headcount.arena.figures.quality import draw_quality
from headcount.arena.figures.style import spread_out, styles
from headcount.arena.latency import Latency
from headcount.arena.result import KeptSite
from headcount.arena.summary import lines


def timed(results):
    return {
        (r.method, r.amount): Latency(
            ratio=0.5 + sum(r.units["head"]) / 16, ratio_quartiles=(0.4, 0.6), median_s=0.01
        )
        for r in results
    }


def draw(kind, results, path):
    if kind == "quality":
        draw_quality(lines(results), path, metric="accuracy")
    elif kind == "heads":
        draw_heads(results, path)
    else:
        draw_latency(lines(results), timed(results), path, metric="accuracy")
    return imread(path)


def kept_heads(module, keep) -> KeptSite:
    bits = "".join(map(str, keep))
    num = bits.count("1")
    return KeptSite(module=module, kind="head", layer=module, num=num, whole=len(bits), keep=bits)


KINDS = ("quality", "heads", "latency")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_results_give_the_same_picture(results, tmp_path, kind):
    draw(kind, results, tmp_path / "a.png")
    draw(kind, results, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_other_results_give_another_picture(results, result, tmp_path, kind):
    before = draw(kind, results, tmp_path / "a.png")
    changed = [result("dsp", 3, 7, chance=0.2), *results]
    after = draw(kind, changed, tmp_path / "b.png")
    assert before.shape != after.shape or not np.array_equal(before, after)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "cells",
    [
        [("dsp", 3)],
        [("dense", None), ("dsp", 0)],
        [("dense", None), ("dsp", 6), ("random", 3)],
        [("dense", None), *((f"method-{i}", k) for i in range(12) for k in (6, 3, 1))],
    ],
    ids=["one", "no heads", "holes", "many"],
)
def test_a_picture_of_little_or_much_is_drawn_within_its_page(result, tmp_path, kind, cells):
    found = [result(method, heads) for method, heads in cells]
    image = draw(kind, found, tmp_path / "it.png")[..., :3]
    ink = image.min(-1) < 0.9
    assert ink.any()
    for edge in (ink[:8], ink[-8:], ink[:, :8], ink[:, -8:]):
        assert not edge.any()


def test_the_dense_model_alone_can_be_drawn(result, tmp_path):
    for kind in ("quality", "latency"):
        assert (draw(kind, [result()], tmp_path / "it.png") < 0.9).any()


def test_shares_are_over_seeds(result):
    one = result("dsp", 2, sites=(kept_heads("a", (1, 1, 0, 0)), kept_heads("b", (0, 0))))
    other = result("dsp", 2, 1, sites=(kept_heads("a", (1, 0, 0, 0)), kept_heads("b", (0, 1))))
    expected = [[1, 0.5, 0, 0], [0, 0.5, np.nan, np.nan]]
    assert np.array_equal(_shares([one, other]), np.array(expected), equal_nan=True)


@given(
    wanted=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    gap=st.floats(0.01, 0.2),
)
def test_places_keep_their_order_and_their_distance(wanted, gap):
    places = spread_out(wanted, gap, 0.0, 1.0)
    room = min(gap, 1 / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    ordered = [places[i] for i in order]
    assert all(b - a >= room - 1e-9 for a, b in itertools.pairwise(ordered))
    assert -1e-9 <= min(places) <= max(places) <= 1 + 1e-9


def test_places_that_are_far_apart_stay():
    assert spread_out([0.9, 0.1, 0.5], 0.2, 0.0, 1.0) == [0.9, 0.1, 0.5]
    assert spread_out([0.5, 0.5], 0.2, 0.0, 1.0) == pytest.approx([0.4, 0.6])


def test_methods_look_different():
    looks = styles([f"method-{i}" for i in range(24)]).values()
    assert len({(look.color, look.dash) for look in looks}) == 24
    first = list(looks)[:8]
    assert len({look.mark for look in first}) == len({look.color for look in first}) == 8


def test_a_method_has_one_colour_whatever_comes_behind_its_name():
    looks = styles(["a", "b", "a+finetuned", "b, as decided", "a+finetuned+distil", "c"])
    assert len({look.color for look in looks.values()}) == 3
    assert len({looks[name].color for name in ("a", "a+finetuned", "a+finetuned+distil")}) == 1
    assert len({(look.color, look.mark, look.dash) for look in looks.values()}) == len(looks)


@pytest.mark.parametrize("kind", ["quality", "latency"])
def test_styles_that_are_given_are_taken(results, tmp_path, kind):
    methods = dict.fromkeys(r.method for r in results if r.amount is not None)
    for name, looks in (("own", styles(methods)), ("other", styles(reversed(methods)))):
        path = tmp_path / f"{name}.png"
        if kind == "quality":
            draw_quality(lines(results), path, metric="accuracy", looks=looks)
        else:
            draw_latency(lines(results), timed(results), path, metric="accuracy", looks=looks)
    draw(kind, results, tmp_path / "default.png")
    own, other, default = (
        (tmp_path / f"{n}.png").read_bytes() for n in ("own", "other", "default")
    )
    assert own == default != other


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_the_front_is_what_nothing_beats(points):
    beaten = {
        p for p in points for q in points if q != p and q[0] <= p[0] and q[1] >= p[1]
    }  # fmt: skip
    assert pareto(points) == sorted(set(points) - beaten)
