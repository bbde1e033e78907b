"""Comparisons whose axis is another than heads, on a tiny model."""

import json
from dataclasses import replace

import pytest
from matplotlib.image import imread
from transformers import AutoModelForSequenceClassification

import headcount as hc
from headcount.arena import recount
from headcount.arena.axis import AXES, HEADS, in_column, in_title, in_words
from headcount.arena.compare import CompareOptions, compare
from headcount.arena.comparison import Comparison
from headcount.arena.figures.shares import draw_shares
from headcount.arena.grid import Cell, Settings
from headcount.arena.latency import Timing, shape_of
from headcount.arena.output import Output
from headcount.arena.result import KeptSite, Result, read_result
from headcount.units.kinds import ALL
from looking import Looking

METHODS = {"random": hc.Random(), "looking": Looking()}
TIMING = Timing(batch=2, length=8, num_runs=2)


@pytest.fixture
def run(tmp_path, quiet):
    def call(grid, **how) -> Comparison:
        how = {"timing": Timing(num_runs=0), "console": quiet, **how}
        return compare(grid, tmp_path / "out", CompareOptions(**how))

    return call


def test_every_kind_of_unit_is_an_axis():
    assert {kind.plural for kind in ALL} | {"params", "macs"} == {*AXES}
    for axis in AXES:
        assert in_words(axis, [0.5]) != in_words(axis, [5])
        assert in_title(axis, 0.5).startswith("50% of ")
        assert in_column(axis, None) == "all"
    assert in_title("layers", 1) == "1 layer"


@pytest.mark.slow
def test_neurons_are_compared(grid, run, tmp_path):
    found = run(grid(METHODS, amounts=(0.5, 0.25), seeds=(0,), axis="neurons"), timing=TIMING)
    assert not found.unfinished
    names = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert names == {"dense-0", *(f"{m}-neurons{k}-0" for m in METHODS for k in (0.5, 0.25))}
    for result in found.results:
        folder = tmp_path / "out" / result.cell.name
        small = AutoModelForSequenceClassification.from_pretrained(folder / "model")
        asked = round(96 * (1.0 if result.amount is None else result.amount))
        assert hc.units(small).num("neuron") == sum(result.units["neuron"]) == asked
        assert sum(site.num for site in result.sites) == asked
        assert {site.kind for site in result.sites} == {"neuron"}
        assert read_result(folder) == result
    assert set(found.latencies) == {(r.method, r.amount) for r in found.results}
    body = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert body["axis"] == "neurons"
    assert [line["neurons"] for line in body["lines"]] == [None, 0.5, 0.25, 0.5, 0.25]
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "**accuracy, by share of neurons kept**" in table
    assert "| method | all | 50% | 25% |" in table
    assert (tmp_path / "out" / "kept.png").is_file()
    assert not (tmp_path / "out" / "heads.png").exists()
    assert Comparison.read(tmp_path / "out") == found


@pytest.mark.parametrize(
    ("axis", "budget"),
    [
        ("macs", {"length": 16}),
        ("macs", {"kinds": ("sublayer", "head", "neuron"), "length": 100}),
        ("params", {}),
    ],
)
def test_a_cost_is_compared_and_counted_again(grid, run, axis, budget):
    found = run(grid(amounts=(0.75,), seeds=(0,), axis=axis, budget=budget))
    assert not found.unfinished, found.unfinished
    dense, result = found.results
    assert dense.cost is None
    assert 0 < result.cost["reached"] <= result.cost["target"] < result.cost["whole"]
    assert {s.kind for s in dense.sites} == {s.kind for s in result.sites}


@pytest.mark.slow
def test_layers_are_compared_and_gone_on_with(grid, run):
    methods = {"layer-drop": hc.LayerDrop(), "random": hc.Random()}
    run(grid(methods, amounts=(2,), seeds=(0,), axis="layers"))
    found = run(grid(methods, amounts=(2, 1), seeds=(0,), axis="layers"))
    assert [r.amount for r in found.results] == [None, 2, 2, 1, 1]
    by_name = {result.cell.name: result for result in found.results}
    assert shape_of(by_name["layer-drop-layers2-0"]) == "layer 1 0 1"
    assert by_name["layer-drop-layers1-0"].units["head"] == (4,)


def test_numbers_for_each_layer_are_compared(grid, run):
    found = run(grid(amounts=(2,), seeds=(0,), budget={"scope": "layer", "place": "encoder"}))
    assert found.results[-1].units["head"] == (2, 2, 2)


def test_another_axis_or_budget_is_refused(grid, run):
    run(grid(amounts=(6,), seeds=(0,)))
    with pytest.raises(hc.CheckpointError, match=r"axis = None, this one has 'neurons'.*may be ad"):
        run(grid(amounts=(6,), seeds=(0,), axis="neurons"))
    with pytest.raises(hc.CheckpointError, match=r"budget = None, this one has {'scope': 'layer'}"):
        run(grid(amounts=(2,), seeds=(0,), budget={"scope": "layer"}))
    with pytest.raises(hc.BudgetError, match=r"\(0.5, 6\)\): give counts or fractions"):
        run(grid(amounts=(0.5,), seeds=(0,)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"amounts": (1, 1.0)}, r"compare\(heads=\(1, 1.0\)\): give one or more, each once"),
        ({"amounts": (2, 0.5)}, "give counts or fractions in one comparison"),
        ({"amounts": (-1,)}, r"Budget\(heads=-1\): a count cannot be negative"),
        ({"axis": "tails"}, r"compare\(axis='tails'\): give one of neurons, heads"),
        ({"axis": "latency"}, r"axis='latency'\): a budget of latency needs a table"),
        ({"budget": {"scope": "each"}}, "give 'global' or 'layer'"),
        ({"budget": {"kinds": ("head",)}}, r"Budget\(kinds=...\): it goes with params or macs"),
        ({"methods": {"it": hc.LayerDrop()}}, "LayerDrop only removes layers or sublayers"),
        ({"axis": "macs", "methods": {"it": hc.DSP(estimator=hc.RelaxedTopK())}, "amounts": (0.5,)},
         r"Budget\(macs=0.5\): RelaxedTopK needs a number of units"),
    ],
)  # fmt: skip
def test_what_no_cell_can_do_is_refused_at_once(grid, changed, message):
    with pytest.raises(hc.BudgetError, match=message):
        grid(**changed)


def test_a_comparison_of_heads_is_described_as_before(grid, tmp_path):
    """Otherwise finished cells of older versions would not be known again."""
    made = grid(amounts=(6,), seeds=(0,))
    output = Output.of(tmp_path / "out", made)
    spec = output.spec(made.cells[1])
    assert {*spec} == {"method", "heads", "seed", "described", "settings"}
    assert not {"axis", "budget"} & {*spec["settings"]}
    assert made.cells[1].name == "random-6-0"
    plain = made.settings.plain()
    del plain["axis"], plain["budget"]
    assert Settings.of(plain) == made.settings


def test_a_result_of_an_older_version_is_read(result):
    new = result("dsp", 3, 1)
    old = {**new.plain(), "num_heads": 3, "heads_per_layer": list(new.units["head"])}
    old["keep"] = {site.module: site.keep for site in new.sites}
    for name in ("units", "sites", "cost"):
        del old[name]
    assert Result.of(old) == new
    assert Result.of(new.plain()) == new


def test_cells_survive_their_plain_form():
    for cell in (Cell(method="a", amount=None, seed=1, axis="macs"),
                 Cell(method="a", amount=0.5, seed=1, axis="kv_heads"),
                 Cell(method="a", amount=3, seed=1)):  # fmt: skip
        assert Cell.of(json.loads(json.dumps(cell.plain()))) == cell
    assert Cell(method="a", amount=0.5, seed=1, axis="kv_heads").name == "a-kv-heads0.5-1"


@pytest.mark.parametrize("axis", ["heads", "neurons", "macs", "params"])
def test_a_model_that_is_not_what_was_asked_fails_its_cell(grid, run, monkeypatch, axis):
    """The recount believes the weights, not the decision."""
    check = recount.check_recount

    def with_the_dense_model(call, budget, dense, small, decision, example):
        check(call, budget, dense, dense, decision, example)

    monkeypatch.setattr("headcount.arena.cell.check_recount", with_the_dense_model)
    found = run(grid(amounts=(0.75,), seeds=(0,), axis=axis))
    ((cell, why),) = found.unfinished.items()
    assert cell.method == "random"
    assert "SurgeryError" in why
    assert "This is an error of headcount; please report it." in why


def shares_of(result, method, amount, kinds, *, axis, seed=0) -> Result:
    sites = tuple(
        KeptSite(module=f"layer.{i}.{kind}", kind=kind, layer=f"encoder.{i}", branch=branch,
                 num=(i + seed) % 3, whole=4)
        for kind, branch in kinds for i in range(5)
    )  # fmt: skip
    return replace(result(method, None, seed), amount=amount, axis=axis, sites=sites)


@pytest.mark.parametrize(
    ("axis", "kinds"),
    [
        ("neurons", [("neuron", "ffn")]),
        ("layers", [("layer", "layer")]),
        ("sublayers", [("sublayer", "self"), ("sublayer", "cross"), ("sublayer", "ffn")]),
        ("macs", [("head", "self"), ("kv_head", "self"), ("neuron", "ffn")]),
    ],
)
def test_shares_are_drawn_within_their_page(result, tmp_path, axis, kinds):
    found = [shares_of(result, f"method-{i}", k, kinds, axis=axis, seed=s)
             for i in range(3) for k in (0.75, 0.5, 0.25)[: i + 1] for s in (0, 1)]  # fmt: skip
    draw_shares(found, tmp_path / "a.png")
    draw_shares(found, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    ink = imread(tmp_path / "a.png")[..., :3].min(-1) < 0.9
    assert ink.any()
    for edge in (ink[:8], ink[-8:], ink[:, :8], ink[:, -8:]):
        assert not edge.any()


def test_the_axis_of_old_folders_is_heads():
    assert Cell(method="a", amount=1, seed=0).axis == HEADS
