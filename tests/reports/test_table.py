"""The table: the report's numbers, shares of the dense row, and nothing else."""

import dataclasses
import io

import pytest
from rich.console import Console

from headcount.reports.report import Report, Row
from headcount.reports.table import markdown, render

SHOWN = (
    "accuracy",
    "0.8",
    "0.76",
    "95.0%",  # quality
    "37.5%",  # heads
    "200 k",
    "150 k",
    "75.0%",  # parameters, MACs, latency
    "801 kB",
    "601 kB",
    "4 M",
    "3 M",
    "4 ms",
    "3 ms",
    "90 s",
    "150.0%",  # training
)


def drawn(report: Report, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(render(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("write", [drawn, markdown])
def test_numbers_and_how_they_were_measured(write, report):
    text = " ".join(write(report).split())
    assert [number for number in SHOWN if number not in text] == []
    for words in (
        "4 in each of 2 layers",
        "3 0",
        "1 2",
        "batch of 16, length 64",
        "median of 50 runs, sdpa attention, Abacus 9 (2 threads).",
        "MACs counted with eager attention",
        "Quartiles: dense 3.5 ms to 4.5 ms.",
        "share of the dense model",
    ):
        assert words in text


@pytest.mark.parametrize("train_s", [86_399.0, 3_599.0])
def test_a_large_model_fits_into_80_columns(report, train_s):
    """Names are folded; numbers stay whole, in one line."""
    rows = tuple(
        Row(
            name=name,
            units={"head": (12,) * 24},
            num_params=335_141_888,
            quality=0.84321,
            num_bytes=1_340_567_552,
            macs=322_122_547_200,
            latency_s=0.93456,
            train_s=train_s,
        )
        for name in ("dense", "dsp-relaxed-constant, as decided", "dsp-relaxed-constant")
    )
    lines = drawn(dataclasses.replace(report, rows=rows), width=80).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert not any("…" in line for line in lines)
    for number in ("0.8432", "335.1 M", "1.341 GB", "322.1 G", "934.6 ms", "accuracy", "training"):
        assert any(number in line for line in lines), number
    assert sum("59 min" in line for line in lines) == 3


def several_kinds(report, *kinds):
    units = {"head": (12,) * 24, "kv_head": (4,) * 24, "neuron": (3072,) * 24, "layer": (1,) * 24}
    rows = tuple(dataclasses.replace(row, units=units) for row in report.rows)
    return dataclasses.replace(report, kinds=kinds, rows=rows)


def test_every_kind_that_was_asked_for_has_its_numbers(report):
    found = several_kinds(report, "layer", "head", "neuron")
    text = markdown(found)
    assert "| layers | heads | neurons | parameters |" in text
    assert "| heads per layer | neurons per layer |" in text
    assert "3072 in each of 24 layers" in text
    assert "layers per layer" not in text + drawn(found, width=100)
    assert "| 24 (100.0%) | 288 (100.0%) | 73728 (100.0%) |" in text


@pytest.mark.parametrize("kinds", [("neuron",), ("kv_head",), ("layer", "head", "neuron")])
def test_kinds_that_were_asked_for_fit_into_80_columns(report, kinds):
    lines = drawn(several_kinds(report, *kinds), width=80).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("write", [drawn, markdown])
def test_one_label_for_every_example_is_said(write, report):
    dense, *others = report.rows
    one = dataclasses.replace(
        report, rows=(dataclasses.replace(dense, only_class="neutral"), *others)
    )
    text = " ".join(write(one).split())
    assert "One label for every example: dense (neutral). Its accuracy is the share of" in text
    assert "No model tells" not in text
    measured = tuple(row for row in report.rows if row.quality is not None)
    both = tuple(dataclasses.replace(row, only_class="neutral") for row in measured)
    text = " ".join(write(dataclasses.replace(report, rows=both)).split())
    assert "No model tells examples apart, so nothing is compared" in text
    assert Report.from_json(one.to_json()) == one
    assert "One label" not in write(report)


def test_a_large_model_fits_into_100_columns(report):
    heads = tuple(range(1, 17)) + (16,) * 8
    rows = tuple(
        Row(
            name=name,
            units={"head": heads},
            num_params=335_141_888,
            quality=0.84321,
            num_bytes=1_340_567_552,
            macs=322_122_547_200,
            latency_s=0.93456,
            train_s=86_399.0,
        )
        for name in ("dense", "straight-through", "random")
    )
    lines = drawn(dataclasses.replace(report, rows=rows)).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    assert not any("…" in line for line in lines)
    assert sum("335.1 M" in line for line in lines) == 3
    assert " ".join(map(str, heads)) in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("write", [drawn, markdown])
def test_without_a_dense_row_there_is_no_share(write, report):
    assert "%" not in write(dataclasses.replace(report, rows=report.rows[1:]))


@pytest.mark.parametrize("write", [drawn, markdown])
def test_what_was_not_measured_is_left_out(write, report):
    text = write(dataclasses.replace(report, rows=report.rows[2:]))
    for words in ("accuracy", "MACs", "latency", "Latency", "on disk", "batch of", "n/a"):
        assert words not in text
    assert "n/a" in write(report)


@pytest.mark.parametrize("write", [drawn, markdown])
def test_a_dense_quality_of_zero_has_no_share(write, report):
    dense, pruned, _ = report.rows
    rows = (dataclasses.replace(dense, quality=0.0), pruned)
    assert "0.76" in write(dataclasses.replace(report, rows=rows))


def test_markdown_has_one_line_for_each_row_and_escapes_bars(report):
    rows = (report.rows[0], dataclasses.replace(report.rows[1], name="a|b\nc"))
    lines = markdown(dataclasses.replace(report, rows=rows)).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert table[3].startswith(r"| a\|b c |")


def test_names_are_not_read_as_markup(report):
    odd = dataclasses.replace(report.rows[1], name="[red]dsp")
    text = drawn(dataclasses.replace(report, task="[bold]x", rows=(odd,)))
    assert "[red]dsp" in text
    assert "[bold]x" in text
