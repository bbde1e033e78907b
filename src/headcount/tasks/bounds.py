"""Bounds on what is read: regular files, within sizes that no real data set reaches."""

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from headcount.errors import DataError

LONGEST_LINE = 1 << 20
"""Most bytes in a line."""
FREE = 1 << 26
"""Bytes to which any compressed file may expand."""
LARGEST_RATIO = 100
"""A compressed file may expand beyond ``FREE``, but not to more than this times its size."""
MOST_ENTRIES = 10_000
"""Most files and folders in a data set's folder."""


@contextmanager
def opened(path: Path, call: str) -> Iterator[IO[bytes]]:
    """Open a regular file. Pipes, devices and files without a size are refused unread.

    Args:
        path: the file.
        call: beginning of every message.

    Raises:
        DataError: it is not a regular file, is empty, or cannot be read.
    """
    try:
        # Before opening, since a device may react to that, and after it, since the path may lead
        # elsewhere by then. O_NONBLOCK: opening a pipe would wait for a writer.
        check_regular(path.stat(), call)
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(number, "rb") as file:
            check_regular(os.fstat(number), call)
            yield file
    except OSError as error:
        said = error.strerror or error
        raise DataError(f"{call}: the file cannot be read: {said}. Give one that can.") from error


def check_regular(found: os.stat_result, call: str) -> None:
    """Refuse a pipe, a device, a socket, a folder, or a file of size 0 (also those in /proc).

    Raises:
        DataError: it is one of these; the message says which.
    """
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    kinds |= {stat.S_ISSOCK: "a socket", stat.S_ISDIR: "a folder"}
    kind = next((name for test, name in kinds.items() if test(found.st_mode)), None)
    if kind:
        raise DataError(f"{call}: it is {kind}. Give a file on a disk.")
    if not found.st_size:
        raise DataError(f"{call}: the file is empty. Give one with a header and rows.")


def is_data_file(path: Path) -> bool:
    """Whether a path leads to a regular file that is not empty.

    Example:
        >>> is_data_file(Path("/dev/null"))
        False
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def lines(file: IO[bytes], call: str, *, is_gzip: bool = False) -> Iterator[tuple[int, str]]:
    r"""The lines of a UTF-8 file with their numbers, from 1, without a byte-order mark.

    Only a line feed ends a line: csv needs carriage returns unchanged.

    Args:
        file: opened in binary mode.
        call: beginning of every message.
        is_gzip: whether the file is compressed.

    Raises:
        DataError: a line is not UTF-8 or longer than a megabyte, or a compressed file is truncated
            or expands to far more than its size.

    Example:
        >>> import io
        >>> list(lines(io.BytesIO(b"a\r\nb"), "read"))
        [(1, 'a\r\n'), (2, 'b')]
    """
    source = gzip.GzipFile(fileobj=file) if is_gzip else file
    most = most_bytes(os.fstat(file.fileno()).st_size) if is_gzip else None
    number = total = 0
    try:
        while line := source.readline(LONGEST_LINE + 1):
            number, total = number + 1, total + len(line)
            where = f"{call}: line {number}"
            if len(line) > LONGEST_LINE:
                raise DataError(
                    f"{where} is longer than {LONGEST_LINE} bytes. Give text with one row a line; "
                    "a line ends in a line feed."
                )
            check_growth(total, most, call)
            yield number, _decoded(line, where, is_first=number == 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{call}: not a whole gzip file: {error}. Compress it again.") from error


def check_growth(num_bytes: int, most: int | None, call: str) -> None:
    """Refuse a compressed file that comes to far more than its size.

    Args:
        num_bytes: the bytes read so far.
        most: the most bytes allowed; None for no bound.
        call: beginning of the message.

    Raises:
        DataError: it is more.
    """
    if most is not None and num_bytes > most:
        raise DataError(
            f"{call}: the compressed file expands to more than {most} bytes, far more than text "
            "does. If that is right, give it uncompressed."
        )


def most_bytes(size: int) -> int:
    """The number of bytes to which a compressed file of this size may expand.

    Example:
        >>> most_bytes(1000) == FREE
        True
    """
    return max(FREE, LARGEST_RATIO * size)


def _decoded(line: bytes, where: str, *, is_first: bool) -> str:
    try:
        text = line.decode("utf-8-sig" if is_first else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text: {error}. Save it as UTF-8.") from error
    return text


def check_folder(folder: Path, call: str, most: int | None = None) -> None:
    """Refuse a folder that cannot be a data set: a system folder, a huge one, or one with devices.

    Args:
        folder: the folder.
        call: beginning of every message.
        most: most files and folders in it; None for ``MOST_ENTRIES``.

    Raises:
        DataError: it is one of these; the message says which.
    """
    most = MOST_ENTRIES if most is None else most
    system = [place for place in ("/proc", "/sys", "/dev") if os.path.isdir(place)]  # noqa: PTH112
    num_entries = 0
    for place, folders, files in os.walk(folder):
        num_entries += len(folders) + len(files)
        if num_entries > most:
            raise DataError(
                f"{call}: the folder holds more than {most} files. Give the folder of one "
                "data set, or files."
            )
        for path in (Path(place), *(Path(place, name) for name in (*files, *folders))):
            if str(path.resolve()).startswith(tuple(f"{root}/" for root in system)):
                raise DataError(f"{call}: {str(path)!r} is the system's. Give a folder of data.")
            if not (path.is_file() or path.is_dir()):
                raise DataError(
                    f"{call}: {str(path)!r} is no file or folder that can be read. Remove it, or "
                    "give files."
                )


def shown(value: object, most: int = 80) -> str:
    """A value in a form for messages, at most a line long.

    Example:
        >>> shown("a"), len(shown("a" * 1000))
        ("'a'", 80)
    """
    if isinstance(value, str | bytes):
        value = value[:most]
    elif isinstance(value, list | tuple) and len(value) > 12:
        text = ", ".join(shown(one, 24) for one in value[:12])
        return f"[{text}, and {len(value) - 12} more]"
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
