"""A run chooses again until its model is as fast as asked, on a clock that counts units."""

import pytest
from rich.console import Console

import headcount as hc
from cases import write_model, write_pairs
from clocks import clock, linear_table
from headcount.reports import latency_gap
from headcount.reports.latency_gap import WINDOW
from headcount.runs.data import gather
from headcount.runs.in_time import TABLE
from headcount.runs.run import RESULT_FILE, RunSpec, carry_out, read_run
from looking import Looking

RECIPE = hc.Recipe(epochs=0.5, batch_size=8, max_length=24, seed=3)
ASKED = 0.6


@pytest.fixture(scope="module")
def task_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    model = write_model(folder / "model")
    train, dev = write_pairs(folder / "a.tsv", 50), write_pairs(folder / "b.tsv", 37, seed=1)
    return model, gather(model, "nli", [train], [dev], RECIPE)


def spec_of(task_data, method, **settings) -> RunSpec:
    model, given = task_data
    table = linear_table(given.fresh_model(model))
    budget = hc.Budget(latency=ASKED, costs=table)
    return RunSpec(
        name="asked", method=method, budget=budget, start=model, recipe=RECIPE, **settings
    )


METHODS = (hc.Random(seed=1), Looking(), hc.DSP())
"""At once, from data, in training."""


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.phase)
def test_the_choice_is_made_again_until_the_model_is_so_fast(
    monkeypatch, task_data, tmp_path, method
):
    monkeypatch.setattr(latency_gap, "fresh_latency_s", clock(0.2))
    spec = spec_of(task_data, method, remeasure=True)
    done = carry_out(spec, task_data[1], tmp_path, Console(quiet=True))
    assert done.spec.budget.costs == hc.LatencyTable.load(tmp_path / TABLE)
    assert done.spec.budget.costs.corrections
    told = done.decision.provenance
    assert told["budget"]["costs"] == done.spec.budget.costs.describe()
    assert told["cost"]["reached"] <= told["cost"]["target"]
    whole, small = (task_data[1].fresh_model(str(path)) for path in (task_data[0], done.folder))
    found = clock(0.2)({"whole": whole, "small": small}, {}, num_runs=1, warmup=0)
    assert ASKED - WINDOW <= found["small"][0] / found["whole"][0] <= ASKED
    again = read_run(spec, tmp_path)
    assert (again.spec.budget, again.decision) == (done.spec.budget, done.decision)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.phase)
def test_a_given_table_is_left_alone(monkeypatch, task_data, tmp_path, method):
    """It may be of another machine, on which nothing can be timed here."""
    calls = []
    monkeypatch.setattr(latency_gap, "fresh_latency_s", clock(0.2, calls))
    spec = spec_of(task_data, method)
    done = carry_out(spec, task_data[1], tmp_path, Console(quiet=True))
    assert not calls
    assert done.spec.budget == spec.budget
    assert not (tmp_path / TABLE).exists()


def test_a_resumed_run_chooses_by_the_table_that_was_corrected(monkeypatch, task_data, tmp_path):
    monkeypatch.setattr(latency_gap, "fresh_latency_s", clock(0.2))
    spec = spec_of(task_data, hc.Random(seed=1), remeasure=True)
    first = carry_out(spec, task_data[1], tmp_path, Console(quiet=True))
    (tmp_path / RESULT_FILE).unlink()
    monkeypatch.setattr(latency_gap, "fresh_latency_s", clock(0.5))  # the machine is busy meanwhile
    again = carry_out(spec, task_data[1], tmp_path, Console(quiet=True))
    assert again.decision == first.decision
    assert again.spec.budget == first.spec.budget
