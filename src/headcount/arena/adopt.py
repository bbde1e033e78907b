"""Take over a run that was trained outside of a comparison, after checking that it fits."""

import json
from pathlib import Path
from typing import Any

from headcount.arena.output import first_change, read_json
from headcount.errors import CheckpointError
from headcount.runs.data import TaskData
from headcount.runs.quality import quality
from headcount.runs.run import RESULT_FILE, RunSpec, read_run, write_result

LARGEST_SHARE = 0.002
"""Share of the evaluation examples whose answer may change when measured again: batches of other
lengths round differently."""


def adopt_run(spec: RunSpec, task_data: TaskData, folder: Path) -> None:
    """Check what ``carry_out`` left in a folder, and add to its result what is missing.

    Method, budget, seed and number of steps must be those of the run. The saved model is measured
    again and must reach the quality in the result. What the folder does not say cannot be checked:
    the learning rate, say, or the seed of a dense model.

    Args:
        spec: what the folder should hold.
        task_data: the data it should have been trained on.
        folder: the folder, with ``result.json`` and ``model/``.

    Raises:
        CheckpointError: the folder holds another run.
    """
    found = read_run(spec, folder)
    wanted: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    if spec.budget is not None and found.decision is not None:  # a dense model has no decision
        wanted = {
            "method": spec.describe(),
            "budget": spec.budget.describe(),
            "seed": spec.recipe.seed,
        }
        seen = {name: found.decision.provenance.get(name) for name in wanted}
    wanted["num_steps"], seen["num_steps"] = num_steps(spec, task_data, folder), found.num_steps
    # Through JSON, as the saved values went: tuples are lists there.
    change = first_change(seen, json.loads(json.dumps(wanted)))
    if change:
        raise CheckpointError(f"adopt: {str(folder)!r} has {change}. Move it away to train anew.")
    # One example may always differ, also where it is more than that share of the data.
    measured = quality(task_data.fresh_model(str(found.folder)), task_data, spec.recipe, folder)
    if abs(measured.value - found.quality) > max(LARGEST_SHARE, 1.5 / len(task_data.eval)):
        raise CheckpointError(
            f"adopt: {str(folder)!r} says that {task_data.metric} is {found.quality:.4f}; measured "
            f"on these evaluation data it is {measured.value:.4f}. Move it away to train anew."
        )
    known = read_json(folder / RESULT_FILE) or {}
    again = {"quality": measured.value, "correct": measured.correct, "adopted": True}
    again["only_class"] = measured.only_class
    write_result(folder, {**known, **again})


def num_steps(spec: RunSpec, task_data: TaskData, scratch: Path) -> int:
    """The number of optimizer steps of the run.

    Args:
        spec: the run.
        task_data: its data.
        scratch: a folder to name in the Trainer's arguments.
    """
    if spec.method is not None and spec.method.phase == "from data":
        return 0
    batch = spec.recipe.arguments(scratch).train_batch_size
    return spec.recipe.num_steps(len(task_data.train), batch)
