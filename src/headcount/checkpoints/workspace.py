"""Where a run works until it is done, and how its result appears all at once."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headcount.errors import CheckpointError

logger = logging.getLogger("headcount")

RUN_FILE = "run.json"
DECISION_FILE = "decision.json"


def check_output(output: Path) -> None:
    """Refuse to write where something else stands.

    Raises:
        CheckpointError: the folder exists and is not a result of headcount.
    """
    if output.exists() and not (output / DECISION_FILE).is_file() and not _is_empty(output):
        raise CheckpointError(
            f"output {str(output)!r} exists and has no {DECISION_FILE}, so headcount did not make "
            "it. Give another folder, or move this one away."
        )


def check_apart(model: str | Path, output: str | Path) -> None:
    """Refuse to put a result in the place of the model that it is made from.

    Raises:
        CheckpointError: the output folder is the model's, or holds it.
    """
    source, target = Path(model), Path(output).resolve()
    if source.exists() and target in (source.resolve(), *source.resolve().parents):
        raise CheckpointError(
            f"output {str(output)!r} is the folder of the model {str(model)!r} or holds it: the "
            "model would be lost. Give another folder."
        )


@contextmanager
def workspace(output: Path, settings: dict[str, Any], *, resume: bool) -> Iterator[Path]:
    """A working folder beside ``output``, named like it with ``.partial`` behind.

    It holds checkpoints while the run lasts. A run that ends well removes it; one that is killed
    or fails after its first checkpoint leaves it behind to be resumed; one that fails earlier
    leaves nothing.

    Args:
        output: the folder the result will have.
        settings: plain values that a resumed run must share with the interrupted one.
        resume: go on with the working folder of an interrupted run, if there is one.

    Yields:
        The working folder.

    Raises:
        CheckpointError: ``output`` is not ours, an interrupted run is in the way, or the
            interrupted run had other settings.
    """
    check_output(output)
    output = output.absolute()
    work = output.with_name(output.name + ".partial")
    if work.exists():
        _check_interrupted(work, settings, resume=resume)
    else:
        if resume:
            logger.warning("Nothing to resume at %s: starting from the beginning.", work.name)
        work.mkdir(parents=True)
    try:
        if not (work / RUN_FILE).is_file():
            (work / RUN_FILE).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        yield work
    except BaseException:
        if not any(work.glob("*/checkpoint-*")) and not any(work.glob("*/result.json")):
            shutil.rmtree(work)
        raise
    shutil.rmtree(work)


def publish(draft: Path, output: Path) -> None:
    """Move a finished folder into place in one step; an older result of ours gives way."""
    check_output(output)
    if output.exists():
        shutil.rmtree(output)
    draft.replace(output)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _check_interrupted(work: Path, settings: dict[str, Any], *, resume: bool) -> None:
    if not (work / RUN_FILE).is_file():
        raise CheckpointError(
            f"output: {str(work)!r} is in the way and headcount did not make it. Move it away."
        )
    if not resume:
        raise CheckpointError(
            f"output: an interrupted run is at {str(work)!r}. Go on with resume (--resume), or "
            "delete that folder to start anew."
        )
    saved = json.loads((work / RUN_FILE).read_text(encoding="utf-8"))
    mine = json.loads(json.dumps(settings))
    for name in sorted(saved.keys() | mine.keys()):
        if saved.get(name) != mine.get(name):
            raise CheckpointError(
                f"resume: the interrupted run at {str(work)!r} had {name} = {saved.get(name)!r}, "
                f"this one has {mine.get(name)!r}. Resume with the settings of the interrupted "
                "run, or delete its folder to start anew."
            )
