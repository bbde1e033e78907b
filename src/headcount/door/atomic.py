"""Write a file at once or not at all: beside its place first, then moved there in one step.

A process that is killed leaves the file as it was, and perhaps a draft whose name ends with
``DRAFT``. Nothing is flushed to the disk (``fsync``): what is guarded against is a killed process,
not a power cut. What headcount writes can be made again, every reader refuses a file that is not
whole, and a run notes its progress twice a second, which would each time wait for the disk.
"""

import gzip
import io
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DRAFT = ".part"
"""The end of a draft's name; before it comes the name of the file."""
PACKED = ".gz"
"""The end of the name of a compressed file."""
_LONGEST = 50
"""Characters of a file's name that its draft's name has: with four bytes each they still fit."""


@contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """A place for the new contents of a file, which takes the file's place when the block ends.

    It lies in the same folder and has a name of its own, so two processes do not meet in it. The
    file has the permissions of the one that it replaces, or else those of any new file. A link is
    replaced, and what it leads to stays. If the block raises, the file stays as it was.

    Args:
        path: the file. What is there and is no file, such as a device, is written to as it is.

    Yields:
        Where to write.

    Raises:
        OSError: the folder is not there, or cannot be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replaced(file) as draft:
        ...     _ = draft.write_text("whole")
        >>> file.read_text(), len(list(file.parent.iterdir()))
        ('whole', 1)
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    draft = path.with_name(f".{secrets.token_hex(4)}-{path.name[-_LONGEST:]}{DRAFT}")
    try:
        yield draft
        with suppress(FileNotFoundError):
            shutil.copymode(path, draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file at once or not at all, in UTF-8, with the line ends of the text.

    A file whose name ends with ``.gz`` is compressed, to the same bytes each time: without a time
    and a name. ``door.files.read_text`` reads both.

    Args:
        path: the file.
        text: its contents.

    Raises:
        OSError: it cannot be written; it is then as it was.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.txt.gz"
        >>> write_text(file, "whole")
        >>> gzip.decompress(file.read_bytes())
        b'whole'
    """
    content = text.encode()
    with replaced(path) as draft:
        draft.write_bytes(_packed(content) if Path(path).suffix == PACKED else content)


def _packed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()
