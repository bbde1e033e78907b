"""Keep a list of the files that headcount wrote: it replaces and deletes no others."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from headcount.door.atomic import write_text
from headcount.door.files import parse_json, read_text
from headcount.door.shape import Count, Misfit, fit
from headcount.errors import CheckpointError

LIST_FILE = "headcount-files.json"
"""Name of the list: the files that headcount wrote into the folder, with size and digest."""
FORMAT = 1
LARGEST_LIST = 1 << 24
"""Most bytes of a list that is read."""

Files = dict[str, tuple[int, str]]
"""Path relative to the folder, with slashes -> (size, SHA-256)."""


def write_list(folder: Path) -> None:
    """List all files that are in a folder now as written by headcount.

    Args:
        folder: a folder that headcount alone has written to.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "config.json").write_text("{}")
        >>> write_list(folder)
        >>> _ = (folder / "thesis.txt").write_text("years of work")
        >>> foreign(folder)
        ['thesis.txt']
    """
    files = _entries(folder)
    listed = {n: (p.stat().st_size, _digest(p)) for n, p in files if n != LIST_FILE}
    _write(folder / LIST_FILE, listed)


def _write(path: Path, files: Files, **more: Any) -> None:
    body = {"format": FORMAT, **more, "files": files}
    write_text(path, json.dumps(body, indent=1) + "\n")


def take_place(
    call: str,
    draft: Path,
    folder: Path,
    *,
    trusted: Collection[str] = (),
    list_file: str = LIST_FILE,
    body: Mapping[str, Any] | None = None,
) -> None:
    """Move files into a folder that also holds others, and list them as ours.

    The list is written first, and keeps its old entries. So if the process is killed in between,
    old and new files are both listed.

    Args:
        call: beginning of the error message.
        draft: a folder on the same disk that holds only these files.
        folder: the target; created if needed.
        trusted: see ``check_takes_place``.
        list_file: name of the list, a JSON file of ours that may have further keys.
        body: these further keys.

    Raises:
        CheckpointError: a file of the same name is there, and headcount did not write it.
    """
    new = {name: (path.stat().st_size, _digest(path)) for name, path in _entries(draft)}
    check_takes_place(call, folder, new, trusted=trusted, list_file=list_file)
    folder.mkdir(parents=True, exist_ok=True)
    before = read_list(folder, list_file=list_file)
    older = {name: found for name, found in before.items() if name in new}
    _write(folder / list_file, {**before, **new}, **(body or {}), before=older)
    for name in new:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).replace(folder / name)


def check_takes_place(
    call: str,
    folder: Path,
    names: Collection[str],
    *,
    trusted: Collection[str] = (),
    list_file: str = LIST_FILE,
) -> None:
    """Refuse to write files where others of the same names stand.

    Args:
        call: beginning of the message.
        folder: where they will be.
        names: the files.
        trusted: names that are ours where there is no list, as in folders of older versions.
        list_file: name of the list.

    Raises:
        CheckpointError: names those that headcount did not write, or that were changed since.
    """
    lists = [read_list(folder, key, list_file) for key in ("files", "before")]
    known = set() if lists[0] else set(trusted)
    others = [
        name
        for name in names
        if os.path.lexists(folder / name)
        and name not in known
        and not any(_is_same(folder / name, files.get(name)) for files in lists)
    ]
    if others:
        raise CheckpointError(
            f"{call} {str(folder)!r} has files that headcount did not write, or that were changed "
            f"since, where it would write its own: {in_words(others)}. Give another folder, or "
            "move them away."
        )


def relist(folder: Path, names: Collection[str]) -> None:
    """Update the list of a folder after files were written. A folder without a list gets none.

    Args:
        folder: the folder.
        names: the files that were written.
    """
    listed = read_list(folder)
    if not listed:
        return
    new = {name: ((folder / name).stat().st_size, _digest(folder / name)) for name in names}
    still = {name: found for name, found in listed.items() if (folder / name).exists()}
    _write(folder / LIST_FILE, {**still, **new})


def read_list(folder: Path, key: str = "files", list_file: str = LIST_FILE) -> Files:
    """The files that a folder's list names; none if there is no list or it cannot be read."""
    path = folder / list_file
    try:
        if path.is_symlink():
            return {}
        body = parse_json(read_text(path, limit=LARGEST_LIST), dict[str, Any])
        files: Files = fit(body.get(key, {}), dict[str, tuple[Count, str]], plain=True)
        return files if body.get("format") == FORMAT else {}
    except (OSError, Misfit):
        return {}


def foreign(folder: Path) -> list[str]:
    """The files in a folder that headcount did not write, or that were changed since.

    Args:
        folder: any folder.

    Returns:
        Paths relative to the folder, in order. A folder with none of our files is one entry, with a
        slash at its end. Links are never ours.
    """
    listed = read_list(folder)
    own = {LIST_FILE} if listed else set()
    return [
        name
        for name, path in _entries(folder, _parents(listed))
        if name not in own and not _is_same(path, listed.get(name))
    ]


def check_replaceable(call: str, folder: Path) -> None:
    """Refuse to replace a folder that holds anything that headcount did not write.

    Args:
        call: beginning of the error message, such as ``output``.
        folder: the place of a result, which need not exist.

    Raises:
        CheckpointError: something else is there; the message names it.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise CheckpointError(f"{call} {str(folder)!r} is no folder. Give another name.")
    others = foreign(folder)
    if not others:
        return
    if read_list(folder):
        raise CheckpointError(
            f"{call} {str(folder)!r} holds what headcount did not write, or what was changed "
            f"since: {in_words(others)}. It would be lost. Give another folder, or move that away."
        )
    known = "decision.json"
    lacks = LIST_FILE if (folder / known).is_file() else known
    raise CheckpointError(
        f"{call} {str(folder)!r} exists and has no {lacks}, so headcount did not make it, or did "
        f"not note what it wrote: {in_words(others)}. Give another folder, or move this one away."
    )


def remove_written(folder: Path) -> list[str]:
    """Delete the files that headcount wrote into a folder, and the folder if it is empty then.

    Only sizes are compared: ``check_replaceable`` has compared the contents shortly before.

    Returns:
        What stays since headcount did not write it, as ``foreign`` names it.
    """
    listed = read_list(folder)
    for name, path in [*_entries(folder)]:
        if _is_same(path, listed.get(name), content=False):
            path.unlink()
    if listed:
        (folder / LIST_FILE).unlink()
    remove_empty(folder)
    return foreign(folder) if folder.exists() else []


def remove_empty(folder: Path) -> None:
    """Delete the empty folders below a folder, and the folder itself if it is empty then."""
    for place, _, _ in os.walk(folder, topdown=False):
        try:
            Path(place).rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def check_no_links(call: str, folder: Path) -> None:
    """Refuse a folder of ours that holds links, devices or pipes: headcount makes none.

    The target of a link would be read, and its content copied into a result.

    Raises:
        CheckpointError: there are some; the message names them.
    """
    odd = [name for name, path in _entries(folder) if not _is_plain(path)]
    if odd:
        raise CheckpointError(
            f"{call} {str(folder)!r} holds links or devices, which headcount does not make: "
            f"{in_words(odd)}. Remove them, or delete the folder to start anew."
        )


def in_words(names: Collection[str]) -> str:
    """The first four names, and how many more there are.

    Example:
        >>> in_words(["a", "b"]), in_words([str(n) for n in range(9)])
        ('a, b', '0, 1, 2, 3 and 5 more')
    """
    first = list(names)[:4]
    rest = len(names) - len(first)
    return ", ".join(name[:80] for name in first) + (f" and {rest} more" if rest else "")


def _entries(folder: Path, inside: Collection[str] | None = None) -> Iterator[tuple[str, Path]]:
    """(relative path, path) of each file below a folder, in order. Links are not followed.

    Args:
        folder: where to look.
        inside: the folders to look into. Each other folder is one entry. None looks into all, and
            then folders are no entries.
    """
    for place, folders, files in os.walk(folder, onerror=_raise):
        here = Path(place)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(set(folders) - set(links))
        closed = (
            [] if inside is None else [n for n in folders if _name(here / n, folder) not in inside]
        )
        for name in closed:
            folders.remove(name)
            yield f"{_name(here / name, folder)}/", here / name
        for name in sorted([*files, *links]):
            yield _name(here / name, folder), here / name


def _raise(error: OSError) -> None:
    raise error


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _parents(names: Collection[str]) -> set[str]:
    return {str(parent) for name in names for parent in Path(name).parents}


def _is_plain(path: Path) -> bool:
    """Whether a path is a regular file or a folder: no link, device or pipe."""
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not path.is_symlink())


def _is_same(path: Path, listed: tuple[int, str] | None, *, content: bool = True) -> bool:
    """Whether a file is as it was listed. The size is compared first, which takes no reading."""
    found = path.lstat()
    if listed is None or not stat.S_ISREG(found.st_mode) or found.st_size != listed[0]:
        return False
    return not content or _digest(path) == listed[1]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
