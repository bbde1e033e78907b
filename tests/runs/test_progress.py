"""What a run shows of itself."""

import io

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

from headcount.runs import progress
from headcount.runs.progress import ProgressBar


def shown(tmp_path, monkeypatch, *, seconds, steps, logged_every=20):
    """The lines of a run whose steps take so long."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    bar = ProgressBar("dsp", Console(file=out, force_terminal=False, width=80))
    args = TrainingArguments(str(tmp_path), report_to=[])
    state, control = TrainerState(), TrainerControl()
    state.max_steps = steps
    bar.on_train_begin(args, state, control)
    for step in range(1, steps + 1):
        now[0] += seconds
        state.global_step = step
        bar.on_step_end(args, state, control)
        if step % logged_every == 0:
            bar.on_log(args, state, control, logs={"loss": 1 / step})
    bar.on_train_end(args, state, control)
    return out.getvalue().splitlines()


@pytest.mark.parametrize(("steps", "num_lines"), [(3, 2), (12, 11), (99, 98)])
def test_a_slow_run_of_few_steps_shows_each(tmp_path, monkeypatch, steps, num_lines):
    lines = shown(tmp_path, monkeypatch, seconds=6, steps=steps)
    assert len(lines) == num_lines
    assert lines[0] == f"dsp: step 1/{steps}"


def test_lines_are_some_seconds_apart_and_show_the_last_numbers(tmp_path, monkeypatch):
    lines = shown(tmp_path, monkeypatch, seconds=1, steps=60)
    assert len(lines) == 11
    assert lines[5] == "dsp: step 30/60  loss 0.050"


def test_a_quick_run_shows_every_hundredth_step(tmp_path, monkeypatch):
    lines = shown(tmp_path, monkeypatch, seconds=0.01, steps=250)
    assert lines == ["dsp: step 100/250  loss 0.010", "dsp: step 200/250  loss 0.005"]


def test_the_units_that_changed_are_told_by_kind(tmp_path):
    out = io.StringIO()
    bar = ProgressBar("dsp", Console(file=out, force_terminal=False, width=120))
    state, control = TrainerState(), TrainerControl()
    state.max_steps = state.global_step = 100
    args = TrainingArguments(str(tmp_path), report_to=[])
    bar.on_train_begin(args, state, control)
    logs = {"loss": 0.5, "neurons_changed": 12, "kv_heads_changed": 1, "heads_moved": 3}
    bar.on_log(args, state, control, logs=logs)
    wanted = "loss 0.500  key-value heads changed 1  neurons changed 12"
    assert out.getvalue().strip() == f"dsp: step 100/100  {wanted}"
