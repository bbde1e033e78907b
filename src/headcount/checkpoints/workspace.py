"""Where a run works until it is done, and how its result appears all at once."""

import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from headcount.checkpoints.place import alone, check_place, expanded, move, on_disk
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
"""Behind the name of the result: its working folder."""
_ASIDE = ".replaced"
"""Behind the name of the result: an older one, until the new one stands in its place."""

WORK_FILES = (
    *(RUN_FILE, "result.json", "latency.json", DECISION_FILE, "report.json", "heads.png"),
    *(SCORES_FILES, f"*{SUFFIX}{DRAFT}"),
    *("config.json", "generation_config.json", "README.md", LIST_FILE, f"*.json{DRAFT}"),
    *("headcount.json", "headcount.safetensors", "training_args.bin"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "trainer_state.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"),
    *("vocab.json", "merges.txt", "added_tokens.json", "*.model", "chat_template.jinja"),
)
"""What a run and its Trainer write into a working folder; nothing else is deleted from there."""


def check_output(output: Path) -> None:
    """Refuse to write where something else stands, or where nothing can be written.

    Raises:
        CheckpointError: the folder holds what headcount did not write, or it cannot be made.
    """
    target = resolved(output)
    check_place("output", target.with_name(target.name + PARTIAL))
    check_place("output", target)
    check_replaceable("output", target)


def resolved(output: str | Path) -> Path:
    """The folder itself, where a link or ``~`` leads to it.

    Raises:
        CheckpointError: there is no such place.
    """
    try:
        return expanded(output).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # such as a link that leads to itself
        raise CheckpointError(f"output {str(output)!r}: {error}. Give another folder.") from error


def check_apart(model: str | Path, output: str | Path) -> None:
    """Refuse to put a result in the place of the model that it is made from.

    Raises:
        CheckpointError: the output folder is the model's, or holds it.
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
    """A working folder beside ``output``, named like it with ``.partial`` behind.

    It holds checkpoints while the run lasts, and a lock. A run that ends well removes it; one that
    is killed or fails after its first checkpoint leaves it behind to be resumed; one that fails
    earlier leaves nothing. Where ``output`` is a link, this is all beside what it leads to.

    Args:
        output: the folder the result will have.
        settings: plain values that a resumed run must share with the interrupted one.
        resume: go on with the working folder of an interrupted run, if there is one.

    Yields:
        The working folder.

    Raises:
        CheckpointError: ``output`` is not ours or cannot be written, an interrupted run is in the
            way, another run is at work, or the interrupted run had other settings.
    """
    check_output(output)
    target = resolved(output)
    work = target.with_name(target.name + PARTIAL)
    if work.is_symlink() or (work.exists() and not work.is_dir()):
        raise CheckpointError(
            f"output: {str(work)!r} is in the way: runs work in a folder of this name, and it is "
            "none. Move it away."
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
        if not any(work.glob("*/checkpoint-*")) and not any(work.glob("*/result.json")):
            clear(work)
        raise
    clear(work, {Path(name).name for name in read_list(target)})


def publish(draft: Path, output: Path) -> None:
    """Move a finished folder into place; an older result of ours gives way.

    Both steps are renamings, and the older result comes back if the second fails.

    Raises:
        CheckpointError: something else stands there, or the draft holds links.
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


def clear(work: Path, more: Collection[str] = ()) -> None:
    """Delete what runs write from a working folder; what else is in it stays.

    Args:
        work: the folder.
        more: names of further files that this run has written, such as those of its tokenizer.
    """
    for path in [*work.rglob("*")]:
        if path.is_symlink() or not path.is_file():
            continue
        if path.name in more or any(fnmatch(path.name, name) for name in WORK_FILES):
            path.unlink()
    remove_empty(work)


def _begin(work: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Look at what an interrupted run left, or note the settings of a new one."""
    run = work / RUN_FILE
    begun = {LOCK_FILE, f"{LOCK_FILE}.json"}
    others = [  # but for the draft of one that was killed just then
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
    """A process that was killed between the two steps of ``publish`` left the older result."""
    aside = _aside(target)
    if not aside.is_dir() or aside.is_symlink():
        return
    if target.exists():
        _drop(aside)
    else:
        move(aside, target)


def _drop(aside: Path) -> None:
    """Delete an older result that has given way."""
    if aside.is_dir() and remove_written(aside):
        logger.warning("%s: kept, headcount did not write all that is in it", aside)
