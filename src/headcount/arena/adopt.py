"""Take over an arm that was trained outside of a comparison, after checking that it fits."""

import json
import math
from pathlib import Path
from typing import Any

from headcount.arena.output import first_change, read_json
from headcount.errors import CheckpointError
from headcount.training.arm import RESULT_FILE, Arm, read_arm, write_result
from headcount.training.material import Material
from headcount.training.quality import quality

LARGEST_SHARE = 0.002
"""Share of the evaluation examples that may come out differently when measured again: batches of
other lengths round differently."""


def adopt_arm(arm: Arm, material: Material, folder: Path) -> None:
    """Check what ``run_arm`` left in a folder, and complete its result by what is missing.

    Method, budget, seed and number of steps must be those of the arm; the saved model is measured
    again, and must be as good as it was said to be. What the folder does not tell, such as the
    learning rate, cannot be checked.

    Args:
        arm: what the folder should hold.
        material: the data it should have been trained on.
        folder: with ``result.json`` and ``model/``.

    Raises:
        CheckpointError: it holds something else.
    """
    found = read_arm(arm, folder)
    told = found.decision.provenance
    wanted: dict[str, Any] = {
        "method": arm.method.describe(),
        "budget": arm.budget.describe(),
        "seed": arm.recipe.seed,
    }
    seen = {name: told.get(name) for name in wanted}
    wanted["num_steps"], seen["num_steps"] = num_steps(arm, material, folder), found.num_steps
    change = first_change(seen, json.loads(json.dumps(wanted)))
    if change:
        raise CheckpointError(f"adopt: {str(folder)!r} has {change}. Move it away to train anew.")
    measured = quality(material.fresh_model(str(found.folder)), material, arm.recipe, folder)
    if abs(measured.value - found.quality) > max(LARGEST_SHARE, 1.5 / len(material.eval)):
        raise CheckpointError(
            f"adopt: {str(folder)!r} says that {material.metric} is {found.quality:.4f}; measured "
            f"on these evaluation data it is {measured.value:.4f}. Move it away to train anew."
        )
    known = read_json(folder / RESULT_FILE) or {}
    again = {"quality": measured.value, "correct": measured.correct, "adopted": True}
    again["only_class"] = measured.only_class
    write_result(folder, {**known, **again})


def num_steps(arm: Arm, material: Material, scratch: Path) -> int:
    """Optimizer steps that the arm takes.

    Args:
        arm: the arm.
        material: its data.
        scratch: a folder that the Trainer's arguments may name.
    """
    if arm.method.phase == "from data":
        return 0
    batch = arm.recipe.arguments(scratch).train_batch_size
    return math.ceil(arm.recipe.epochs * math.ceil(len(material.train) / batch))
