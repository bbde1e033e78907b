"""The report: a value that survives JSON, and refuses what it cannot be."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import CheckpointError, PruningError
from headcount.reports.report import FILE, Report, Row, report_of
from headcount.units.kinds import KINDS

counts = st.integers(0, 2**53)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(0, 1e12)
texts = st.text(max_size=12)
plain = st.dictionaries(texts, st.none() | st.booleans() | counts | finite | texts, max_size=4)


@st.composite
def row(draw, name):
    layers = st.lists(st.integers(0, 64), max_size=5).map(tuple)
    units = draw(st.dictionaries(st.sampled_from(KINDS), layers, max_size=3))
    return Row(
        name=name,
        units=units,
        num_params=draw(counts),
        quality=draw(st.none() | finite),
        num_bytes=draw(st.none() | counts),
        macs=draw(st.none() | counts),
        latency_s=draw(st.none() | positive),
        latency_quartiles_s=draw(st.none() | st.tuples(positive, positive)),
        train_s=draw(st.none() | positive),
    )


@st.composite
def reports(draw):
    names = draw(st.lists(texts, min_size=1, max_size=3, unique=True))
    return Report(
        task=draw(texts),
        metric=draw(texts),
        budget=draw(plain),
        method=draw(plain),
        seed=draw(counts),
        num_steps=draw(counts),
        batch_size=draw(counts),
        length=draw(counts),
        attn_implementation=draw(texts),
        rows=tuple(draw(row(name)) for name in names),
        environment=draw(plain),
        device=draw(st.none() | texts),
        num_runs=draw(st.none() | counts),
        command=draw(st.none() | texts),
    )


@given(reports())
def test_json_round_trip(report):
    assert Report.from_json(report.to_json()) == report


def test_report_of_reads_the_folder_alone(report, tmp_path):
    report.save(tmp_path)
    assert report_of(tmp_path) == report
    assert report_of(str(tmp_path)) == report
    assert Report.load(tmp_path) == report
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_dense_is_the_row_of_that_name(report):
    assert report.dense is report.rows[0]
    assert dataclasses.replace(report, rows=report.rows[1:]).dense is None


def test_report_of_a_folder_without_report(tmp_path):
    with pytest.raises(CheckpointError, match=r"no report\.json there\. Give the folder of a"):
        report_of(tmp_path)
    with pytest.raises(CheckpointError, match=r"no report\.json there"):
        report_of(tmp_path / "nowhere")


def as_format_2(body):
    """Turn the values of a report about heads into those of format 2."""
    body["format"] = 2
    del body["kinds"]
    for row in body["rows"]:
        row["heads_per_layer"] = row.pop("units")["head"]
        row["num_heads"] = sum(row["heads_per_layer"])
    return body


def damaged(change):
    def text(report):
        body = json.loads(report.to_json())
        change(body)
        return json.dumps(body)

    return text


DAMAGES = {
    "empty": lambda _: "",
    "list": lambda _: "[]",
    "number": lambda _: "3",
    "cut off": lambda report: report.to_json()[:-20],
    "no format": damaged(lambda body: body.pop("format")),
    "no task": damaged(lambda body: body.pop("task")),
    "unknown field": damaged(lambda body: body.update(flavour="salt")),
    "rows are gone": damaged(lambda body: body.update(rows=[])),
    "rows are none": damaged(lambda body: body.update(rows=None)),
    "budget is text": damaged(lambda body: body.update(budget="12 heads")),
    "heads do not add up": damaged(lambda body: as_format_2(body)["rows"][0].update(num_heads=1)),
    "heads are text": damaged(lambda body: as_format_2(body)["rows"][0].update(num_heads="8")),
    "units are text": damaged(lambda body: body["rows"][0].update(units={"head": ["8"]})),
    "kind is unknown": damaged(lambda body: body["rows"][0].update(units={"tail": [8]})),
    "kinds are unknown": damaged(lambda body: body.update(kinds=["tail"])),
    "quality is text": damaged(lambda body: body["rows"][0].update(quality="good")),
    "quality is infinite": damaged(lambda body: body["rows"][0].update(quality=float("inf"))),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_report_is_refused(damage, report, tmp_path):
    (tmp_path / FILE).write_text(damage(report), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"report\.json is damaged: .*not a report"):
        report_of(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / FILE).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(CheckpointError, match=r"report\.json is damaged"):
        report_of(tmp_path)


def test_another_format_is_refused(report):
    text = damaged(lambda body: body.update(format=99))(report)
    with pytest.raises(CheckpointError, match="format 99; this version of headcount reads 3"):
        Report.from_json(text)


def test_a_report_of_heads_alone_is_read(report):
    """Formats 1 and 2 have the number of heads, and that of each layer."""
    body = as_format_2(json.loads(report.to_json()))
    assert Report.from_json(json.dumps(body)) == report
    assert [row.num_heads for row in report.rows] == [8, 3, 3]
    assert report.rows[1].heads_per_layer == (3, 0)


def test_kinds_that_there_are_not_are_refused(report):
    with pytest.raises(PruningError, match=r"units=\{'tail': ...\}\): give kinds of layer"):
        Row(name="dsp", units={"tail": (4, 3)}, num_params=1)
    with pytest.raises(PruningError, match=r"Report\(kinds=\('tail',\)\): 'tail' is no kind"):
        dataclasses.replace(report, kinds=("tail",))


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("quality", float("nan"), "give a finite number, or None"),
        ("latency_s", float("inf"), "give a finite number, 0 or more, or None"),
        ("num_bytes", -1, "give a finite number, 0 or more, or None"),
    ],
)
def test_numbers_out_of_range_are_refused(field, value, allowed):
    with pytest.raises(PruningError, match=rf"{field}={value}\): {allowed}"):
        Row(name="dsp", units={"head": (1,)}, num_params=1, **{field: value})


@pytest.mark.parametrize("times", [0, 2])
def test_no_row_and_rows_of_one_name_are_refused(report, times):
    with pytest.raises(PruningError, match="Give at least one row, each with a name of its own"):
        dataclasses.replace(report, rows=report.rows[:1] * times)
