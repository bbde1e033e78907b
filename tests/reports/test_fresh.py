"""Timing in a process of its own."""

import pytest
import torch

import headcount as hc
from cases import batch, bert
from headcount.reports import fresh
from headcount.reports.fresh import fresh_latency_s


@pytest.mark.slow
def test_models_are_timed_in_a_fresh_process(caplog):
    whole = bert().train()
    small = hc.cut(whole, hc.decide(whole, hc.Random(), hc.Budget(heads=3, neurons=5)))
    told = []
    samples = fresh_latency_s(
        {"whole": whole, "small": small},
        batch(),
        num_runs=3,
        warmup=1,
        told=lambda *numbers: told.append(numbers),
    )
    assert {name: len(values) for name, values in samples.items()} == {"whole": 3, "small": 3}
    assert all(value > 0 for values in samples.values() for value in values)
    assert told == [(3, 3)]
    assert not caplog.records
    assert whole.training


def test_what_cannot_be_pickled_is_timed_here_and_a_warning_says_so(monkeypatch):
    said = []
    monkeypatch.setattr(fresh.logger, "warning", lambda text, *args: said.append(text % args))
    model = torch.nn.Linear(3, 2)
    model.register_forward_hook(lambda *given: None)
    samples = fresh_latency_s({"a": model}, {"input": torch.zeros(1, 3)}, num_runs=2, warmup=0)
    assert len(samples["a"]) == 2
    (text,) = said
    assert text.startswith("latency: timed in this process, since a fresh one could not load")
