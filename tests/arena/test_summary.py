import io
import statistics

import numpy as np
import pytest
from rich.console import Console

from headcount.arena.summary import Difference, Line, differences, lines
from headcount.arena.table import MINUS, NONE, Sheet, sheets


def test_lines_have_mean_and_spread_over_seeds(results):
    found = {(line.method, line.amount): line for line in lines(results)}
    assert list(found) == [("dense", None), ("dsp", 6), ("dsp", 3), ("random", 6), ("random", 3)]
    for (method, heads), line in found.items():
        values = [r.quality for r in results if (r.method, r.amount) == (method, heads)]
        assert line.num_seeds == 3
        assert line.mean == pytest.approx(np.mean(values))
        assert line.std == pytest.approx(np.std(values, ddof=1))
        assert (line.least, line.greatest) == (min(values), max(values))


def test_one_seed_has_no_spread(result):
    (line,) = lines([result("dsp", 3)])
    assert line.std is None
    assert line.mean == result("dsp", 3).quality


def test_quality_as_decided_has_a_mean_of_its_own(result):
    own = [result("dsp", 3, seed, quality_once=0.2 + seed / 10) for seed in (0, 1)]
    (line,) = lines(own)
    assert line.once_mean == pytest.approx(0.25)
    assert line.once_std == pytest.approx(statistics.stdev([0.2, 0.3]))


def test_differences_are_paired_by_seed(results):
    found = {(d.method, d.amount): d for d in differences(results, "dsp")}
    assert set(found) == {("random", 6), ("random", 3)}
    for (method, heads), difference in found.items():
        by_seed = {(r.method, r.seed): r.quality for r in results if r.amount == heads}
        paired = [by_seed[method, seed] - by_seed["dsp", seed] for seed in range(3)]
        assert difference.mean == pytest.approx(np.mean(paired))
        assert difference.num_seeds == 3
        assert difference.resampled == "seeds and examples"
        assert difference.low < difference.mean < difference.high
    assert found["random", 3].high < 0  # chances of 0.5 and 0.8 on 200 examples


def test_only_seeds_that_both_have_are_compared(result):
    found = [result("dsp", 3, seed) for seed in (0, 1)] + [result("random", 3, s) for s in (1, 2)]
    (difference,) = differences(found, "dsp")
    assert difference.num_seeds == 1
    assert difference.mean == pytest.approx(found[2].quality - found[1].quality)
    assert difference.resampled == "examples"


def test_a_seed_in_common_is_needed(result):
    assert differences([result("dsp", 3, 0), result("random", 3, 1)], "dsp") == []
    assert differences([result("dsp", 3, 0), result("random", 6, 0)], "dsp") == []
    assert differences([result("random", 6, 0)], "dsp") == []


@pytest.mark.parametrize(
    ("seeds", "resampled", "known"), [((0, 1), "seeds", True), ((0,), "nothing", False)]
)
def test_without_answers_seeds_alone_are_resampled(result, seeds, resampled, known):
    found = [result("dsp", 3, s) for s in seeds]
    found += [result("random", 3, s, correct=None) for s in seeds]
    (difference,) = differences(found, "dsp")
    assert difference.resampled == resampled
    assert (difference.low is not None) == known
    one, other = found[: len(seeds)], found[len(seeds) :]
    paired = [b.quality - a.quality for a, b in zip(one, other, strict=True)]
    assert difference.mean == pytest.approx(np.mean(paired))
    if known:
        assert min(paired) <= difference.low <= difference.high <= max(paired)


def test_a_summary_is_the_same_every_time(results):
    assert differences(results, "dsp") == differences(results, "dsp")


def test_the_tables_show_every_number(results):
    quality, against = sheets(
        lines(results), differences(results, "dsp"), metric="accuracy", against="dsp"
    )
    assert quality.head == ("method", "all", "6", "3")
    assert [row[0] for row in quality.rows] == ["dense", "dsp", "random"]
    line = lines(results)[1]
    assert quality.rows[1] == ("dsp", NONE, f"{line.mean:.3f} ± {line.std:.3f}", quality.rows[1][3])
    assert quality.note == "Mean and standard deviation over 3 seeds."
    difference = differences(results, "dsp")[1]
    cells = [f"{value:+.3f}".replace("-", MINUS) for value in
             (difference.mean, difference.low, difference.high)]  # fmt: skip
    assert against.rows[0][2] == f"{cells[0]} [{cells[1]}, {cells[2]}]"
    assert "difference to dsp, seed by seed" in against.title


def test_seeds_are_counted_where_they_differ(result):
    found = [result("dsp", 3, 0), result("dsp", 3, 1), result("random", 3, 0)]
    (sheet,) = sheets(lines(found), [], metric="accuracy", against="dsp")
    assert [row[1][-3:] for row in sheet.rows] == ["(2)", "(1)"]


def test_what_is_missing_is_a_dash(result):
    found = [result("dsp", 3), result("random", 6)]
    (sheet,) = sheets(lines(found), [], metric="accuracy", against="dsp")
    assert sheet.note == "One seed."
    assert [row.count(NONE) for row in sheet.rows] == [1, 1]


def test_quality_as_decided_has_a_table_where_it_differs(result):
    same = result("looking", 3)
    same = result("looking", 3, quality_once=same.quality)
    assert len(sheets(lines([same]), [], metric="accuracy", against="dsp")) == 1
    other = result("looking", 3, quality_once=0.125)
    _, once = sheets(lines([other]), [], metric="accuracy", against="dsp")
    assert once.rows == (("looking", "0.125"),)
    assert once.title == "accuracy as decided, before the cut model is trained"


def test_methods_of_another_training_are_named(result):
    found = [result("dsp", 3), result("dsp+finetuned", 3)]
    (plain,) = sheets(lines(found), [], metric="accuracy", against="dsp")
    assert plain.note == "One seed."
    same = result("looking", 3)
    same = result("looking", 3, quality_once=same.quality)
    (sheet,) = sheets(lines([*found, same]), [], metric="accuracy", against="dsp")
    assert "not counted: dsp+finetuned, looking. Not trained after they decided" in sheet.note
    sheet, _ = sheets(
        lines([*found, result("looking", 3, quality_once=0.125)]), [], metric="q", against="dsp"
    )
    assert sheet.note.endswith("not counted: dsp+finetuned, looking.")


def test_intervals_over_something_else_are_named(result):
    found = [
        result("dsp", 3),
        result("random", 3),
        result("dsp", 6),
        result("random", 6, correct=None),
    ]
    tables = sheets(lines(found), differences(found, "dsp"), metric="accuracy", against="dsp")
    assert tables[-1].rows[0][1].endswith("(one seed)")
    assert "where over something else, it is named" in tables[-1].note


def test_an_interval_over_few_seeds_alone_is_their_range_and_said_to_be(result):
    found = [
        result(method, 3, seed, correct=None, quality=quality)
        for method, qualities in (("dsp", (0.5, 0.5, 0.5)), ("random", (0.25, 0.375, 0.75)))
        for seed, quality in enumerate(qualities)
    ]
    (difference,) = differences(found, "dsp")
    assert (difference.low, difference.high) == (-0.25, 0.25)
    *_, table = sheets(lines(found), [difference], metric="accuracy", against="dsp")
    assert "3 seeds or fewer alone it is no more than their range" in table.note


def test_nothing_gives_no_table():
    assert sheets([], [], metric="accuracy", against="dsp") == []


def test_a_markdown_table_has_one_line_a_row():
    sheet = Sheet(title="t", head=("method", "12"), rows=(("a", "1"), ("b", "2")), note="n")
    lines_of_it = sheet.markdown().splitlines()
    assert [line.count("|") for line in lines_of_it] == [0, 0, 3, 3, 3, 3, 0, 0]


def test_a_line_keeps_its_extremes():
    assert Line.of("dsp", 3, [0.25, 0.75]).least == 0.25


def test_a_wide_comparison_fits_into_80_columns():
    """Columns that do not fit follow below; no number is cut, none is lost."""
    heads = (None, 144, 132, 120, 108, 96, 84, 72, 60, 48, 36, 24, 12, 6)
    names = ("dense", "dsp-relaxed-pipelined+finetuned+distil", "hard-concrete-penalty+distil")
    found = [
        Line.of(name, k, [0.1 + n / 1000, 0.2, 0.3])
        for name in names
        for n, k in enumerate(heads)
        if (k is None) == (name == "dense")
    ]
    apart = [
        Difference(
            method=names[1],
            amount=k,
            num_seeds=3,
            mean=-0.012,
            low=-0.02,
            high=k / 1000,
            resampled="seeds" if k == 12 else "seeds and examples",
        )
        for k in heads[1:]
    ]
    for sheet in sheets(found, apart, metric="accuracy", against="dsp"):
        console = Console(file=io.StringIO(), width=80, color_system=None)
        console.print(sheet.rich())
        text = console.file.getvalue()
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
        assert "…" not in text
        words = text.split()
        assert [word for word in sheet.head if word not in words] == []
        for row in sheet.rows:
            assert [w for cell in row[1:] for w in cell.split() if w not in words] == []


def test_remarks_stand_below_the_quality(result):
    (sheet,) = sheets(
        lines([result("dsp", 3)]), [], metric="accuracy", against="dsp", remarks=["Mind this."]
    )
    assert sheet.note == "One seed. Mind this."
