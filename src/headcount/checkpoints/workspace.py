"""The working folder of a run, and the step by which its finished result appears at once."""

import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from shutil import copyfile
from typing import Any

from headcount.checkpoints.disk import alone, check_place, expanded, move, on_disk
from headcount.checkpoints.written import (
    LIST_FILE,
    check_no_links,
    check_replaceable,
    in_words,
    read_list,
    remove_empty,
    remove_written,
    write_list,
)
from headcount.door.atomic import DRAFT, write_text
from headcount.door.files import checked, parse_json, read_text
from headcount.errors import CheckpointError
from headcount.units.scores import SUFFIX

logger = logging.getLogger("headcount")

RUN_FILE = "run.json"
DECISION_FILE = "decision.json"
SCORES_FILES = f"{DECISION_FILE}.*{SUFFIX}"
"""The scores of a decision about many units."""
LOCK_FILE = "lock"
PARTIAL = ".partial"
"""Ending of the working folder's name, after the name of the result."""
_ASIDE = ".replaced"
"""Ending of the name of an older result, until the new one is in its place."""

LOG_FILES = ("events.out.tfevents.*", "emissions*.csv")
"""Files that the Trainer's reporters (TensorBoard, CodeCarbon) write into the folder of a run."""
LOGS = "logs"
"""Name of the folder of these files in a result."""
WORK_FILES = (
    *LOG_FILES,
    *(RUN_FILE, "result.json", "latency.json", DECISION_FILE, "report.json"),
    *("heads.png", "kept.png"),
    *(SCORES_FILES, f"*{SUFFIX}{DRAFT}"),
    *("config.json", "generation_config.json", "README.md", LIST_FILE, f"*.json{DRAFT}"),
    *("headcount.json", "headcount.safetensors", "training_args.bin"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "trainer_state.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
    *("vocab.json", "merges.txt", "added_tokens.json", "*.model", "chat_template.jinja"),
    *("preprocessor_config.json", "processor_config.json", "normalizer.json"),
    *("modules.json", "config_sentence_transformers.json", "sentence_*_config.json"),
)
"""Files that a run and its Trainer write into a working folder. No others are deleted there."""


def check_output(output: Path) -> None:
    """Refuse an output folder with other people's files, or one that cannot be written.

    Raises:
        CheckpointError: the folder holds files that headcount did not write, or cannot be created.
    """
    target = resolved(output)
    check_place("output", target.with_name(target.name + PARTIAL))
    check_place("output", target)
    check_replaceable("output", target)


def resolved(output: str | Path) -> Path:
    """The folder to which a path leads, with links and ``~`` resolved.

    Raises:
        CheckpointError: the path leads nowhere.
    """
    try:
        return expanded(output).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # such as a link that leads to itself
        raise CheckpointError(f"output {str(output)!r}: {error}. Give another folder.") from error


def check_apart(model: str | Path, output: str | Path) -> None:
    """Refuse an output folder that would replace the model from which the result is made.

    Raises:
        CheckpointError: the output folder is the model's folder, or contains it.
    """
    source, target = expanded(model), resolved(output)
    places = (target, target.with_name(target.name + PARTIAL))
    if source.exists() and any(
        place in (source.resolve(), *source.resolve().parents) for place in places
    ):
        raise CheckpointError(
            f"output {str(output)!r} is the folder of the model {str(model)!r} or holds it: the "
            "model would be lost. Give another folder."
        )


@contextmanager
def workspace(output: Path, settings: dict[str, Any], *, resume: bool) -> Iterator[Path]:
    """A working folder beside ``output``, with the same name and ``.partial`` at its end.

    It holds a lock, and checkpoints while the run lasts. A run that succeeds removes it. A run that
    is killed, or fails after its first checkpoint, leaves it so that it can be resumed. A run that
    fails earlier leaves nothing. If ``output`` is a link, all of this is beside the link's target.

    Args:
        output: the folder of the result.
        settings: plain values that must be the same in a resumed run.
        resume: continue with the working folder of an interrupted run, if there is one.

    Yields:
        The working folder.

    Raises:
        CheckpointError: ``output`` holds other files or cannot be written, another run is working
            on it, or there is an interrupted run and ``resume`` is false or its settings differ.
    """
    check_output(output)
    target = resolved(output)
    # Beside the result, so on the same disk: the finished folder is then renamed, not copied.
    work = target.with_name(target.name + PARTIAL)
    if work.is_symlink() or (work.exists() and not work.is_dir()):
        raise CheckpointError(
            f"output: {str(work)!r} is in the way: runs need a folder of this name, and it is not "
            "a folder. Move it away."
        )
    state = f"{str(target)!r} is as it was. "
    with on_disk("output", work, state, "go on with resume (--resume)"):
        work.mkdir(parents=True, exist_ok=True)
        try:
            with alone(work / LOCK_FILE, f"output: another run is at work on {str(target)!r}"):
                _begin(work, settings, resume=resume)
                _restore(target)
                yield from _until_done(work, target)
        finally:
            _remove_if_empty(work)
    if work.exists():
        logger.warning("%s: kept, headcount did not write all that is in it", work)


def _until_done(work: Path, target: Path) -> Iterator[Path]:
    try:
        yield work
    except BaseException:
        # Without a checkpoint or a finished run, there is nothing to resume.
        if not any(work.glob("*/checkpoint-*")) and not any(work.glob("*/result.json")):
            clear(work)
        raise
    clear(work, {Path(name).name for name in read_list(target)})


def publish(draft: Path, output: Path) -> None:
    """Move a finished folder into place, and delete an older result that was there.

    The older result is renamed, then the draft. If the second step fails, the older one is renamed
    back. So at every moment one whole result exists.

    Raises:
        CheckpointError: other files are there, or the draft contains links.
    """
    check_output(output)
    check_no_links("output", draft)
    write_list(draft)
    target = resolved(output)
    aside = _aside(target)
    if target.exists():
        move(target, aside)
    try:
        move(draft, target)
    except BaseException:
        if aside.exists():
            move(aside, target)
        raise
    _drop(aside)


def keep_logs(work: Path, draft: Path) -> None:
    """Copy what reporters have written about the runs into a draft of the result.

    Args:
        work: the working folder, with a folder for each run.
        draft: the draft, below ``work``.
    """
    for name in LOG_FILES:
        for path in [*work.rglob(name)]:
            if path.is_file() and not path.is_symlink() and draft not in path.parents:
                target = draft / LOGS / path.relative_to(work)
                target.parent.mkdir(parents=True, exist_ok=True)
                copyfile(path, target)


def clear(work: Path, more: Collection[str] = ()) -> None:
    """Delete the files that runs write from a working folder. Other files stay.

    Args:
        work: the folder.
        more: names of further files that this run has written, such as its tokenizer's.
    """
    for path in [*work.rglob("*")]:
        if path.is_symlink() or not path.is_file():
            continue
        if path.name in more or any(fnmatch(path.name, name) for name in WORK_FILES):
            path.unlink()
    remove_empty(work)


def _begin(work: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Check the files of an interrupted run, or write the settings of a new one."""
    run = work / RUN_FILE
    # A run that was killed before it wrote its settings leaves at most these, and a draft of them.
    begun = {LOCK_FILE, f"{LOCK_FILE}.json"}
    others = [
        path.name
        for path in work.iterdir()
        if path.name not in begun and not path.name.endswith(f"{RUN_FILE}{DRAFT}")
    ]
    if others:
        _check_interrupted(work, settings, resume=resume, holds=others)
        return
    if resume:
        logger.warning("Nothing to resume at %s: starting from the beginning.", work.name)
    write_text(run, json.dumps(settings, indent=1) + "\n")


def _check_interrupted(
    work: Path, settings: dict[str, Any], *, resume: bool, holds: list[str]
) -> None:
    if not (work / RUN_FILE).is_file():
        raise CheckpointError(
            f"output: {str(work)!r} is in the way and headcount did not make it: it holds "
            f"{in_words(sorted(holds))}. Move it away."
        )
    if not resume:
        raise CheckpointError(
            f"output: an interrupted run is at {str(work)!r}. Go on with resume (--resume), or "
            "delete that folder to start anew."
        )
    check_no_links("resume: the interrupted run at", work)
    # Through JSON, so that tuples compare equal to the lists in the file.
    saved, mine = _settings(work), json.loads(json.dumps(settings))
    for name in sorted(saved.keys() | mine.keys()):
        if saved.get(name) != mine.get(name):
            raise CheckpointError(
                f"resume: the interrupted run at {str(work)!r} had {name} = {saved.get(name)!r}, "
                f"this one has {mine.get(name)!r}. Resume with the settings of the interrupted "
                "run, or delete its folder to start anew."
            )


def _settings(work: Path) -> dict[str, Any]:
    call = f"resume: {RUN_FILE} of the interrupted run at {str(work)!r} is damaged"
    with checked(call, give="Delete that folder to start anew."):
        return parse_json(read_text(work / RUN_FILE), dict[str, Any])


def _remove_if_empty(work: Path) -> None:
    with suppress(OSError):
        work.rmdir()


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}{_ASIDE}")


def _restore(target: Path) -> None:
    """Finish the work of a process that was killed inside ``publish``.

    The older result is renamed back if the new one is not there, and is deleted if it is.
    """
    aside = _aside(target)
    if not aside.is_dir() or aside.is_symlink():
        return
    if target.exists():
        _drop(aside)
    else:
        move(aside, target)


def _drop(aside: Path) -> None:
    """Delete an older result that was replaced."""
    if aside.is_dir() and remove_written(aside):
        logger.warning("%s: kept, headcount did not write all that is in it", aside)
