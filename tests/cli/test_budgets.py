"""Budgets on the command line: how flags are read, and whole runs to budgets of each kind."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import headcount as hc
from headcount.cli import main as cli
from headcount.cli.budgets import (
    AMOUNTS,
    FLAGS,
    ONE,
    SEVERAL,
    amount,
    amounts,
    budget_of,
    flag_of,
    in_flags,
)
from headcount.cli.config import spread
from headcount.reports.report import report_of
from headcount.units.kinds import ALL

counts = st.integers(0, 10**12)
fractions = st.floats(0, 1)
numbers = counts | fractions
places = st.sampled_from(["encoder", "decoder.cross", "self", "text_model.ffn", "cross"])


@given(numbers)
def test_a_number_is_read_as_it_is_written(number):
    found = amount(repr(number), "--heads")
    assert (found, type(found)) == (number, type(number))


@given(st.dictionaries(places, numbers, min_size=1), st.sampled_from(["", " "]))
def test_places_are_read_as_they_are_written(wanted, blank):
    text = f",{blank}".join(f"{place}{blank}={blank}{k!r}" for place, k in wanted.items())
    assert amount(text, "--heads") == wanted


@given(st.lists(numbers, min_size=1))
def test_several_amounts_are_read_as_they_are_written(wanted):
    assert amounts(",".join(map(repr, wanted)), "--heads") == tuple(wanted)


@given(st.text(alphabet="ab=,.0 1-", max_size=12))
def test_any_other_text_is_refused_in_one_way(text):
    wrong = None
    try:
        amount(text, "--neurons")
    except hc.BudgetError as error:
        wrong = str(error)
    if wrong is not None:
        assert wrong.startswith("--neurons")
        assert "Give" in wrong


@given(st.dictionaries(st.sampled_from(["heads", "neurons", "layers"]), counts, min_size=1))
def test_flags_together_are_one_budget(asked):
    assert budget_of({name: str(k) for name, k in asked.items()}) == hc.Budget(**asked)


@pytest.mark.parametrize(
    ("asked", "more", "budget"),
    [
        ({"kv_heads": "0.5"}, {"place": "decoder"}, hc.Budget(kv_heads=0.5, place="decoder")),
        ({"heads": "3"}, {"scope": "layer"}, hc.Budget(heads=3, scope="layer")),
        ({"layers": "4"}, {"min_per_layer": 1}, hc.Budget(layers=4, min_per_layer=1)),
        ({"macs": "0.5"}, {"length": 64}, hc.Budget(macs=0.5, length=64)),
        (
            {"params": "66000000"},
            {"kinds": "neuron"},
            hc.Budget(params=66000000, kinds=("neuron",)),
        ),
    ],
)
def test_every_field_of_a_budget_has_its_flag(asked, more, budget):
    assert budget_of(asked, **more) == budget


def test_the_flags_are_those_of_the_table_of_kinds():
    plurals = [kind.plural for kind in ALL]
    assert sorted(ONE) == sorted([*plurals, "params", "macs", "latency"]) == sorted(AMOUNTS)
    assert sorted(SEVERAL) == sorted([*plurals, "params", "macs"])
    shown = {command: CliRunner().invoke(cli.app, [command, "--help"]).output
             for command in ("prune", "compare")}  # fmt: skip
    for command, flags in (("prune", ONE), ("compare", SEVERAL)):
        assert all(f"{flag_of(name)} " in shown[command] for name in flags)
    assert " --latency " not in shown["compare"]  # refused, so not offered
    assert "--latency" in FLAGS


@given(st.dictionaries(st.sampled_from(["heads", "kv_heads", "min_per_layer"]), numbers))
def test_a_message_speaks_of_flags(fields):
    call = f"Budget({', '.join(f'{name}={value!r}' for name, value in fields.items())})"
    said = in_flags(f"{call}: the model has 12 heads. Give Budget(kinds=('head', 'neuron')).")
    flags = " ".join(f"{flag_of(name)} {value}" for name, value in fields.items())
    rest = ": the model has 12 heads. Give --kinds head,neuron."
    assert said == (flags or "the budget") + rest


def test_what_is_no_call_stays_as_it_is():
    for text in ("Budget(heads=", "Budget(a b)", "a Budget of 3 heads"):
        assert in_flags(text) == text


def prune(inputs, *extra):
    words = ["prune", inputs["model"], "--train", inputs["train"], "--eval", inputs["eval"]]
    words += ["--epochs", "1", "--batch-size", "8", "--max-length", "24"]
    words += ["--latency-batch", "2", "--latency-length", "16", *map(str, extra)]
    return CliRunner().invoke(cli.app, spread(words, ["--train", "--eval"]))


@pytest.mark.parametrize(
    ("flags", "counts", "said"),
    [
        ("--neurons 0.5", {"neuron": 48}, "Kept 48 of 96 neurons; per layer"),
        ("--heads 3 --neurons 0.5", {"head": 3, "neuron": 48}, "Kept 3 of 12 heads; per layer"),
        ("--layers 1 --method layer-drop", {"layer": 1}, "Kept 1 of 3 layers; per layer 1, 0, 0."),
        ("--heads encoder=5", {"head": 5}, "Kept 5 of 12 heads; per layer"),
        ("--sublayers self=1,ffn=0.67", {"sublayer": 3}, "Kept 3 of 6 sublayers; per layer"),
        ("--neurons 10 --method fisher --num-examples 8", {"neuron": 10}, "Kept 10 of 96 neurons"),
        ("--layers 2 --method fisher --num-examples 8", {"layer": 2}, "Kept 2 of 3 layers"),
    ],
)
def test_prune_to_any_number(inputs, tmp_path, flags, counts, said):
    done = prune(inputs, *flags.split(), "--output", tmp_path / "small")
    assert done.exit_code == 0, done.output
    assert said in done.output
    kinds = tuple(sorted(counts))
    report = report_of(tmp_path / "small")
    decision = hc.Decision.load(tmp_path / "small" / "decision.json")
    assert {kind: decision.num(kind) for kind in counts} == counts
    assert tuple(sorted(report.kinds)) == kinds
    assert {kind: report.rows[-1].num(kind) for kind in counts} == counts
    figure = "heads.png" if kinds == ("head",) else "kept.png"
    assert (tmp_path / "small" / figure).is_file()


def test_a_file_may_name_places(inputs, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("heads: {encoder: 5}\nneurons: {encoder.ffn: 0.25}\n", encoding="utf-8")
    done = prune(inputs, "--config", config, "--method", "random", "--output", tmp_path / "small")
    assert done.exit_code == 0, done.output
    decision = hc.Decision.load(tmp_path / "small" / "decision.json")
    assert (decision.num("head"), decision.num("neuron")) == (5, 24)
    assert decision.provenance["budget"]["heads"] == {"encoder": 5}


@pytest.mark.parametrize(
    "flags",
    ["--heads 5 --method layer-drop", "--params 0.8 --method layer-drop",
     "--macs 0.5 --method dsp-relaxed", "--latency 0.8 --method dsp-relaxed-pipelined"],
)  # fmt: skip
def test_a_method_that_cannot_serve_a_budget_is_refused_before_data_are_read(
    inputs, tmp_path, flags
):
    nowhere = {**inputs, "train": str(tmp_path / "none.tsv"), "model": str(tmp_path / "none")}
    done = prune(nowhere, *flags.split(), "--output", tmp_path / "small")
    assert done.exit_code == 1
    assert re.search("LayerDrop only removes layers|RelaxedTopK needs a number", done.output)
    assert list(tmp_path.iterdir()) == []
