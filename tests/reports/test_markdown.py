"""The one writer of Markdown tables."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import ArgumentError
from headcount.reports.markdown import one_line, table


def test_names_are_left_and_numbers_right():
    text = table(("run", "a", ""), [("dsp", "1", ""), ("random", "", "2")])
    assert text.splitlines() == [
        "| run | a | |",
        "|:--|--:|--:|",
        "| dsp | 1 |  |",
        "| random |  | 2 |",
    ]


def test_columns_are_aligned_as_asked():
    assert table(("a", "b", "c"), [], "-lr") == "| a | b | c |\n|---|:--|--:|"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a|b", "a\\|b"),
        ("a\nb", "a b"),
        (" a \r\n\tb ", "a b"),
        ("a\u2028b\x85c", "a b c"),
        ("`a | b`", "`a \\| b`"),
    ],
)
def test_nothing_ends_a_cell_or_a_row(text, cell):
    assert one_line(text) == cell
    assert table((text, "n"), [(text, "1")], "l-").splitlines()[2] == f"| {cell} | 1 |"


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=4))
def test_a_table_has_as_many_rows_and_cells_as_it_was_given(rows):
    lines = table(("a", "b", "c"), rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert {len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) for line in lines} <= {4}


@pytest.mark.parametrize(
    ("head", "rows", "align", "message"),
    [
        (("a", "b"), [], "l", "give one of l, r, - for each of the 2 columns"),
        (("a", "b"), [], "lc", "give one of l, r, -"),
        (("a", "b"), [("1",)], "", "give 2 cells in each row"),
    ],
)
def test_what_makes_no_table_is_refused(head, rows, align, message):
    with pytest.raises(ArgumentError, match=message):
        table(head, rows, align)
