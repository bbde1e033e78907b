"""A report and a decision to write about."""

import pytest

from headcount.reports.report import Report, Row
from headcount.units.decision import Decision, SiteDecision


@pytest.fixture
def decision() -> Decision:
    """Three of eight heads; the second layer keeps none."""
    keeps = ((True, False, True, True), (False, False, False, False))
    sites = tuple(
        SiteDecision(
            module=f"encoder.layer.{layer}.attention.self",
            kind="head",
            layer=layer,
            stack="encoder",
            keep=keep,
            scores=(0.5, -1.5, 2.0, 0.25),
        )
        for layer, keep in enumerate(keeps)
    )
    provenance = {
        "method": {"name": "dsp", "learning_rate": 0.5},
        "budget": {"heads": 3, "scope": "global", "min_per_layer": 0},
        "seed": 7,
        "steps": 90,
        "num_steps": 100,
    }
    return Decision(sites=sites, provenance=provenance)


@pytest.fixture
def report() -> Report:
    """Dense, pruned and control."""
    dense = Row(
        name="dense",
        units={"head": (4, 4)},
        num_params=200_000,
        quality=0.8,
        num_bytes=801_000,
        macs=4_000_000,
        latency_s=0.004,
        latency_quartiles_s=(0.0035, 0.0045),
        train_s=60.0,
    )
    pruned = Row(
        name="dsp",
        units={"head": (3, 0)},
        num_params=150_000,
        quality=0.76,
        num_bytes=601_000,
        macs=3_000_000,
        latency_s=0.003,
        train_s=90.0,
    )
    control = Row(name="random", units={"head": (1, 2)}, num_params=150_000)
    return Report(
        task="sst2",
        metric="accuracy",
        budget={"heads": 3, "scope": "global", "min_per_layer": 0},
        method={"name": "dsp", "learning_rate": 0.5},
        seed=7,
        num_steps=100,
        batch_size=16,
        length=64,
        attn_implementation="sdpa",
        rows=(dense, pruned, control),
        environment={"torch": "2.13.0", "processor": "Abacus 9", "num_threads": 2, "gpu": None},
        device="cpu",
        num_runs=50,
        command="headcount prune tiny --heads 3",
    )
