"""The session's part of a training checkpoint: what resuming needs, and the check that it fits."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from headcount.errors import CheckpointError
from headcount.training.session import Session

STATE_FILE = "headcount.safetensors"
RUN_FILE = "headcount.json"


def write_session(folder: Path, session: Session) -> None:
    """Add the session to a checkpoint folder.

    ``headcount.json`` is written last and moved into place in one step: a checkpoint is complete
    exactly when it has that file.
    """
    tensors = {name: value.contiguous() for name, value in session.state_dict().items()}
    save_file(tensors, folder / STATE_FILE)
    draft = folder / f"{RUN_FILE}.part"
    draft.write_text(json.dumps(session.fingerprint(), indent=1) + "\n", encoding="utf-8")
    draft.replace(folder / RUN_FILE)


def complete_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first; what a killed run left half is passed over.

    Example:
        >>> complete_checkpoints(Path("no such folder"))
        []
    """
    found = [path.parent for path in folder.glob(f"checkpoint-*/{RUN_FILE}")]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def complete_checkpoint(folder: Path) -> Path:
    """The folder itself, if it is a complete checkpoint.

    Raises:
        CheckpointError: it is not.
    """
    if not (folder / RUN_FILE).is_file():
        raise CheckpointError(
            f"train(resume_from_checkpoint={str(folder)!r}): no {RUN_FILE} there, so it is not a "
            "complete checkpoint of PruningTrainer. Give another, or True for the last complete "
            "one."
        )
    return folder


def check_session(folder: Path, session: Session) -> None:
    """Refuse a checkpoint of another model, method, budget or seed.

    Raises:
        CheckpointError: names what differs, with both values.
    """
    saved: dict[str, Any] = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    mine = session.fingerprint()
    for name, value in mine.items():
        if saved.get(name) != value:
            raise CheckpointError(
                f"train(resume_from_checkpoint={str(folder)!r}): the checkpoint was made with "
                f"another {name}: {_short(saved.get(name))}, this run has {_short(value)}. Resume "
                "with the settings of the interrupted run, or start anew."
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."
