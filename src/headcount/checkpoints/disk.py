"""Places on a disk: check that they can be written, and lock them against a second process."""

import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from headcount.errors import CheckpointError, PruningError

_CANNOT = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG),
    *(errno.ENOTDIR, errno.EEXIST, errno.EBUSY, errno.EFBIG, errno.EIO, errno.EXDEV, errno.ELOOP),
    *(errno.EISDIR, errno.ENOTEMPTY, errno.EMFILE),
}
"""Error numbers that mean that a place cannot be written."""
_SAID = (
    *("No space left", "os error 28", "file write failed", "PytorchStreamWriter failed"),
    "enforce fail at inline_container",  # torch.save, if a write was cut short
)
"""The same in the messages of libraries that pass no number on."""
_LONGEST_HOLDER = 4096
"""Bytes that are read of the note about the holder of a lock."""


def expanded(path: str | Path) -> Path:
    """A path with ``~`` replaced by the user's folder.

    Raises:
        CheckpointError: the user in ``~user`` does not exist.

    Example:
        >>> expanded("small"), expanded("~/small") == Path.home() / "small"
        (PosixPath('small'), True)
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"{str(path)!r}: {error}. Give the folder in full.") from error


def expanded_name(model: str | Path) -> str:
    """The id or folder of a model, with ``~`` replaced by the user's folder.

    Example:
        >>> expanded_name("bert-base-uncased")
        'bert-base-uncased'
    """
    return str(expanded(model)) if str(model).startswith("~") else str(model)


def check_place(call: str, place: Path, *, replaced: bool = True) -> None:
    """Refuse a place that cannot be written, before any work is done. Nothing is created.

    Args:
        call: beginning of the message, such as ``output``.
        place: a file or folder that will be written, and may exist.
        replaced: whether a folder there will be replaced; otherwise files are added to it.

    Raises:
        CheckpointError: the place cannot be written; the message says why.
    """
    try:
        why = _obstacle(place, replaced=replaced)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
    if why:
        raise CheckpointError(
            f"{call} {_short(place)!r} cannot be written: {why}. Give another place."
        )


def _obstacle(place: Path, *, replaced: bool) -> str | None:
    """Why a place cannot be written; None if nothing speaks against it."""
    if replaced and os.path.ismount(place):
        return f"a disk is mounted there; give a folder in it, such as {str(place / 'small')!r}"
    if replaced and place in (Path.cwd(), *Path.cwd().parents):
        return "it holds the folder that you are in, which would be replaced"
    return _read_only(place, place if place.is_dir() and not replaced else place.parent)


def _read_only(place: Path, parent: Path) -> str | None:
    """Why nothing can be created in a folder, which need not exist yet; None if it can."""
    while not parent.is_dir():
        if os.path.lexists(parent):
            return f"{str(parent)!r} is no folder"
        parent = parent.parent
    for folder in (parent, *([place] if place.is_dir() else [])):
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            return f"the disk of {str(folder)!r} is read-only"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"{str(folder)!r} is read-only for you"
    return None


def check_room(call: str, place: Path, num_bytes: int) -> None:
    """Refuse a disk with less room than will certainly be needed.

    Args:
        call: beginning of the message.
        place: the file or folder that will be written.
        num_bytes: the least number of bytes that it needs.

    Raises:
        CheckpointError: the disk has less free.
    """
    parent = next(folder for folder in place.parents if folder.is_dir())
    free = shutil.disk_usage(parent).free
    if free < num_bytes:
        raise CheckpointError(
            f"{call} {_short(place)!r}: the disk has {free / 1e6:.0f} MB free, and the model alone "
            f"takes {num_bytes / 1e6:.0f} MB. Make room, or give a place on another disk."
        )


@contextmanager
def on_disk(call: str, place: Path, state: str = "", again: str = "") -> Iterator[None]:
    """Inside the block, turn errors of a full or read-only disk into one error that names it.

    Args:
        call: beginning of the message.
        place: the file or folder that is written.
        state: a sentence about an older result.
        again: how to continue once there is room; told only if the place exists by then.

    Raises:
        CheckpointError: the disk cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        why = None if isinstance(error, PruningError) else _refusal(error, place.parent)
        if why is None:
            raise
        room = f"Make room, then {again}." if again and place.exists() else "Make room."
        full = not isinstance(error, OSError) or error.errno in (errno.ENOSPC, errno.EDQUOT)
        do = room if full else "Give another place, or see to it that it can be written."
        raise CheckpointError(
            f"{call}: {_short(place)!r} cannot be written: {why}. {state}{do}"
        ) from error


def _refusal(error: BaseException, within: Path) -> str | None:
    """The disk's reason in an error; None if the error is not about writing this place."""
    if isinstance(error, OSError):
        # An error about a file elsewhere, such as the model that is read, is not ours to explain.
        name = str(error.filename or "")
        if error.errno not in _CANNOT or (name and not name.startswith(str(within))):
            return None
        return f"{error.strerror} ({name[-200:]!r})" if name else str(error.strerror)
    text = " ".join(str(error).split())
    return text[:200] if any(said in text for said in _SAID) else None


@contextmanager
def alone(lock: Path, call: str, *, keep: bool = False) -> Iterator[None]:
    """Inside the block, this process alone works on a folder. A lock ends with its process.

    Args:
        lock: the lock file, in the folder.
        call: beginning of the message for a second process.
        keep: leave the lock file there, for a folder that stays in any case.

    Raises:
        CheckpointError: another process works on the folder; the message says which.
    """
    # The system drops the lock of a process that is killed; the note beside it says who holds it.
    note, held = lock.with_name(f"{lock.name}.json"), FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise CheckpointError(f"{call}{_holder(note)}. Wait for it, or stop it.") from error
    except (OSError, NotImplementedError) as error:
        raise CheckpointError(
            f"{str(lock)!r} cannot be locked: {error}. Give a folder on a disk that has locks."
        ) from error
    try:
        # A process that ended just now has removed the file that we have opened and locked. A third
        # process could lock a new file of this name.
        if not lock.exists():
            raise CheckpointError(f"{call}, or was just now. Try again.")
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        body = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
        note.write_text(json.dumps(body) + "\n", encoding="utf-8")
        yield
    finally:
        note.unlink(missing_ok=True)
        if not keep:
            lock.unlink(missing_ok=True)
        held.release()


def _holder(note: Path) -> str:
    """The holder of a lock in words; empty if its note cannot be read."""
    try:
        with note.open(encoding="utf-8") as file:
            body = json.loads(file.read(_LONGEST_HOLDER))
        return f" (process {int(body['process'])} on {body['host']}, since {body['since']})"
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def move(source: Path, target: Path) -> None:
    """Rename a folder. If that would cross file systems, copy it beside the target, then rename.

    The layered file systems of containers also refuse to rename a folder of a lower layer.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        draft = target.with_name(f".{target.name}.moving")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft, symlinks=True)
        draft.rename(target)
        shutil.rmtree(source)


def _short(place: Path) -> str:
    text = str(place)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-40:]}"
