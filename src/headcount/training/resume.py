"""Our files in a training checkpoint: the session's state, and the settings it belongs to."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from headcount.door.atomic import write_text
from headcount.door.files import parse_json, read_text
from headcount.door.shape import Misfit
from headcount.door.tensors import check_header, header, header_of
from headcount.errors import CheckpointError
from headcount.training.restore import restoring
from headcount.training.session import Session

STATE_FILE = "headcount.safetensors"
RUN_FILE = "headcount.json"


def write_session(folder: Path, session: Session) -> None:
    """Add the state of a session to a checkpoint folder; ``write_run`` completes it."""
    tensors = {name: value.contiguous() for name, value in session.state_dict().items()}
    save_file(tensors, folder / STATE_FILE)


def write_run(folder: Path, fingerprint: dict[str, Any]) -> None:
    """Complete a checkpoint folder.

    ``headcount.json`` is written last and moved into place in one step. So a checkpoint is complete
    exactly when it has that file, even if the run was killed while it wrote.

    Args:
        folder: the checkpoint.
        fingerprint: the settings that a run must share with this one to resume from here.
    """
    write_text(folder / RUN_FILE, json.dumps(fingerprint, indent=1) + "\n")


def complete_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first; half-written ones are left out.

    Example:
        >>> complete_checkpoints(Path("no such folder"))
        []
    """
    found = [path.parent for path in folder.glob(f"checkpoint-*/{RUN_FILE}")]
    numbered = {path: path.name.rpartition("-")[2] for path in found}
    return sorted(
        (path for path, number in numbered.items() if number.isdecimal()),
        key=lambda path: int(numbered[path]),
    )


def complete_checkpoint(folder: Path) -> Path:
    """The folder itself, if it is a complete checkpoint.

    Raises:
        CheckpointError: it is not complete.
    """
    if not (folder / RUN_FILE).is_file():
        raise CheckpointError(
            f"train(resume_from_checkpoint={str(folder)!r}): no {RUN_FILE} there, so it is not a "
            "complete checkpoint of headcount. Give another folder, or True for the last complete "
            "one."
        )
    return folder


def check_run(folder: Path, mine: dict[str, Any]) -> None:
    """Refuse a checkpoint of another model, method, budget or seed.

    Args:
        folder: the checkpoint.
        mine: the fingerprint of the run that resumes.

    Raises:
        CheckpointError: names what differs, with both values.
    """
    with restoring(folder, RUN_FILE):
        saved: dict[str, Any] = parse_json(read_text(folder / RUN_FILE), dict[str, Any])
    for name, value in mine.items():
        if saved.get(name) != value:
            raise CheckpointError(
                f"train(resume_from_checkpoint={str(folder)!r}): the checkpoint was made with "
                f"another {name}: {_short(saved.get(name))}, this run has {_short(value)}. Resume "
                "with the settings of the interrupted run, or start anew."
            )


def load_session(folder: Path, session: Session, *, step: int) -> None:
    """Load the state of a session from a checkpoint.

    Args:
        folder: the checkpoint.
        session: a session that has done no step yet.
        step: the steps done, by the Trainer's state.

    Raises:
        CheckpointError: the state is damaged, or belongs to another method, model or step.
    """
    with restoring(folder, STATE_FILE):
        # The header comes first: names and shapes are compared before anything changes.
        check_header(header(folder / STATE_FILE), header_of(session.state_dict()))
        session.load_state_dict(load_file(folder / STATE_FILE))
        if session.num_done != step:
            raise Misfit(session.num_done, f"the {step} of the Trainer's state", place="num_done")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."
