"""Read tables of files that are no text, such as images or sound: a file and a text in each row."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features
from datasets.fingerprint import generate_random_fingerprint

from headcount.errors import DataError, check_argument
from headcount.tasks.bounds import check_regular, shown
from headcount.tasks.columns import find_column, first_rows
from headcount.tasks.files import cell_of, found_file, read_parquet, suffix_of
from headcount.tasks.hub import load_hub, parse_hub_id
from headcount.tasks.rows import read_rows

MOST_FILES = 1_000_000
"""Most files and folders in a folder of images or sound."""
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Names of the table in a folder of files, as in the hub's layout."""
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
"""Split -> the names that a subfolder with it may have."""
STORED = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
"""How a file is stored in a table: its content, or the path of a file on this disk."""

_HUB_FILES = ("*.parquet", "*.arrow", "data/*.parquet", "data/*.arrow")
_logger = logging.getLogger("headcount")

Row = tuple[Path, str, str]
"""A file, its text, and where it stands, for messages."""
Column = tuple[Sequence[Any], Any]
"""The values of a column, and their type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Medium:
    """A sort of file, and where tables have it.

    Example:
        >>> from headcount.tasks.images import IMAGES
        >>> IMAGES.noun
        'image'
    """

    noun: str
    """What a file is, in messages."""
    suffixes: tuple[str, ...]
    """Suffixes of the files that are read from a folder without a table."""
    setting: str
    """The setting of the task that names the column of files."""
    columns: tuple[str, ...]
    """Usual names of that column, the most usual first."""
    text_setting: str
    """The setting of the task that names the column of texts."""
    text_columns: tuple[str, ...]
    """Usual names of that column."""
    folder: Callable[["Medium", Path, str], Sequence[Row]]
    """Reads a folder that has no table: (medium, folder, beginning of messages) -> rows."""


def read_media(
    sources: Sequence[str | Path], medium: Medium, *, column: str, text: str, split: str
) -> Dataset:
    """Read files with their texts from one or more sources into one table.

    A source is a table (csv, tsv, jsonl, parquet) with a column of paths, which are seen from the
    folder of the table; a folder of files; or a data set of the hub. A folder may have subfolders
    for its splits, such as ``train`` and ``test``. Files are not opened.

    Args:
        sources: tables, folders or data sets.
        medium: the sort of file.
        column: the column of files; empty to find it by its usual names.
        text: the column of texts, likewise.
        split: split of a data set that names none; also named in messages.

    Returns:
        The columns ``file`` (the content, or the path), ``text``, and ``place``, which says where
        a row stands.

    Raises:
        DataError: a source cannot be read, or lacks a column, or a file does not exist.
    """
    call = f"read({sources!r}, split={split!r})"
    if isinstance(sources, str | Path) or not sources:
        raise DataError(f"{call}: give a list of one or more tables, folders or hub data sets.")
    for source in sources:
        example = "tables, folders or hub data sets"
        check_argument("read", "sources", source, (str, Path), example)
    wanted = _Wanted(medium=medium, column=column, text=text, split=split)
    table = pa.concat_tables([wanted.of_source(source) for source in sources])
    return Dataset(table, fingerprint=generate_random_fingerprint())


def with_files(table: Dataset, name: str, columns: Mapping[str, Column]) -> Dataset:
    """The files of a table under another name, beside other columns. Contents are not copied.

    Args:
        table: what ``read_media`` returns.
        name: the name of the column of files.
        columns: name -> (values, their type) of each further column.

    Example:
        >>> from datasets import Value
        >>> table = Dataset.from_dict({"file": [{"bytes": b"a", "path": None}], "text": ["b"]})
        >>> with_files(table, "pixel_values", {"labels": ([1], Value("int64"))})[0]
        {'pixel_values': {'bytes': b'a', 'path': None}, 'labels': 1}
    """
    stored: Any = table.with_format("arrow")[:]
    features = {name: table.features["file"], **{key: kind for key, (_, kind) in columns.items()}}
    kinds = Features({key: kind for key, (_, kind) in columns.items()}).arrow_schema
    arrays = {key: pa.array(columns[key][0], kinds.field(key).type) for key in columns}
    return Dataset(
        pa.table({name: stored["file"], **arrays}),
        info=DatasetInfo(features=Features(features)),
        fingerprint=generate_random_fingerprint(),  # a hash of all contents would take long
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """What is read of every source."""

    medium: Medium
    column: str
    text: str
    split: str

    def of_source(self, source: str | Path) -> pa.Table:
        call = f"read({str(source)!r})"
        found = found_file(source, call, MOST_FILES)
        if isinstance(found, Path):
            return self._of_file(found, call)
        if not Path(found).is_dir():
            return self._of_hub(found, call)
        folder = split_folder(Path(found), self.split, call)
        table = next((folder / name for name in METADATA if (folder / name).is_file()), None)
        if table is not None:
            return self._of_file(table, f"read({str(table)!r})")
        if any(path for name in _HUB_FILES for path in Path(found).glob(name)):
            return self._of_hub(found, call)
        rows = self.medium.folder(self.medium, folder, call)
        paths = [_checked(path, where, str(path), self.medium) for path, _, where in rows]
        return _table(_by_path(paths), [row[1] for row in rows], [row[2] for row in rows])

    def _found(self, names: Sequence[str], call: str) -> tuple[str, str]:
        """The columns of files and of texts."""
        medium = self.medium
        column = find_column(
            names, self.column, medium.columns, call=call, what=medium.setting, needed=True
        )
        rest = [name for name in names if name != column]
        text = find_column(
            rest, self.text, medium.text_columns, call=call, what=medium.text_setting, needed=True
        )
        _logger.info("%s: %s %r, %s %r", call, medium.setting, column, medium.text_setting, text)
        return column, text

    def _of_file(self, path: Path, call: str) -> pa.Table:
        suffix = suffix_of(path, call)
        column, text = self._found([*first_rows(path, split=self.split)[0]], call)
        if suffix == ".parquet":
            values, features = read_parquet(path, (column, text), call)
            return self._of_arrow(values, features, (column, text), path.parent, path.name)
        cells, lines = read_rows(path, (column, text), suffix=suffix, call=call)
        places = [f"{path.name!r} line {line}" for line in lines]
        paths = [
            self._path(cell, path.parent, place, column)
            for cell, place in zip(cells[column], places, strict=True)
        ]
        return _table(_by_path(paths), cells[text], places)

    def _of_hub(self, source: str, call: str) -> pa.Table:
        found = load_hub(source, split=self.split)
        names = self._found(found.column_names, call)
        # Stored values are taken as they are: nothing is decoded or downloaded.
        values: Any = found.select_columns([*names]).with_format("arrow")[:]
        folder = Path(parse_hub_id(source, split=self.split)[0])
        base = folder if folder.is_dir() else None
        return self._of_arrow(values, found.features, names, base, str(source))

    def _of_arrow(
        self,
        values: pa.Table,
        features: Features,
        names: tuple[str, str],
        base: Path | None,
        source: str,
    ) -> pa.Table:
        """Rows of a table whose files are stored in it, or named by their paths."""
        column, text = names
        places = [f"{source!r} row {number}" for number in range(1, len(values) + 1)]
        chunks, start = [], 0
        for chunk in values.column(column).chunks:
            contents, cells = _parts(chunk)
            # Contents stay where they are, which may be on the disk.
            known = contents.is_valid().to_pylist()
            paths = [
                None if known[row] else self._path(cell, base, places[start + row], column)
                for row, cell in enumerate(cells)
            ]
            parts = [contents, pa.array(paths, pa.string())]
            chunks.append(pa.StructArray.from_arrays(parts, fields=[*STORED]))
            start += len(chunk)
        told = zip(values.column(text).to_pylist(), places, strict=True)
        texts = [cell_of(features[text], text, cell, place) for cell, place in told]
        return _table(pa.chunked_array(chunks, STORED), texts, places)

    def _path(self, cell: Any, base: Path | None, place: str, column: str) -> str:
        """The path of a file that a cell names."""
        noun = self.medium.noun
        if not isinstance(cell, str) or not cell.strip():
            raise DataError(
                f"{place} has {shown(cell)} as {column!r}. Give the path of a file there, or "
                f"name another column as {self.medium.setting}."
            )
        if "://" in cell:
            raise DataError(
                f"{place} has the address {shown(cell)} as {column!r}; nothing is downloaded. "
                f"Download the {noun}, and give its path."
            )
        if base is None and not Path(cell).is_absolute():
            raise DataError(
                f"{place} has the path {shown(cell)} as {column!r}, but the data set has no folder "
                f"on this disk. Give a data set that holds its {noun}s itself."
            )
        # An absolute path stays as it is. Not resolved: a link may have the name that is known.
        path = Path(os.path.abspath((base or Path()) / cell))  # noqa: PTH100
        return _checked(path, place, cell, self.medium)


def _checked(path: Path, place: str, cell: str, medium: Medium) -> str:
    """The path of a regular file that is not empty."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{place}: there is no {medium.noun} {shown(cell)} (looked for at {str(path)!r}). "
            "Paths are seen from the folder of the table; correct it, or leave the row out."
        ) from error
    if path.is_file() and not found.st_size:
        raise DataError(
            f"{place}: the {medium.noun} {shown(cell)} is empty: 0 bytes. Give a whole one, or "
            "leave the row out."
        )
    check_regular(found, f"{place}: {shown(cell)}")
    return str(path)


def _parts(chunk: Any) -> tuple[Any, list[Any]]:
    """The contents of stored files, null where there is none; and what stands for their paths."""
    kind, nothing = chunk.type, [None] * len(chunk)
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        parts = dict(zip((field.name for field in kind), chunk.flatten(), strict=True))
        paths = parts["path"].to_pylist() if "path" in parts else nothing
        return parts["bytes"].cast(pa.large_binary()), paths
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return chunk.cast(pa.large_binary()), nothing
    return pa.nulls(len(chunk), pa.large_binary()), chunk.to_pylist()


def _by_path(paths: Sequence[str]) -> pa.ChunkedArray:
    """Files that are named by their paths alone."""
    return pa.chunked_array([pa.array([{"path": path} for path in paths], STORED)])


def _table(files: pa.ChunkedArray, texts: Sequence[str], places: Sequence[str]) -> pa.Table:
    if not len(files):
        raise DataError("read: the table has no rows. Give one with at least one row.")
    told = {"text": pa.array(texts, pa.string()), "place": pa.array(places, pa.string())}
    return pa.table({"file": files, **told})


def called(file: Mapping[str, Any], place: str, noun: str) -> str:
    """The beginning of a message about a file: where it stands, and its path unless that says it.

    Example:
        >>> called({"bytes": None, "path": "data/red/0.png"}, "'a.csv' line 3", "image")
        "'a.csv' line 3: 'data/red/0.png'"
        >>> called({"bytes": b"", "path": None}, "'a.parquet' row 3", "image")
        "'a.parquet' row 3: the image there"
    """
    if file["path"] is None:
        return f"{place}: the {noun} there"
    return place if Path(file["path"]).name in place else f"{place}: {file['path']!r}"


def split_folder(folder: Path, split: str, call: str) -> Path:
    """The subfolder of a split, where all subfolders are splits; else the folder itself.

    Args:
        folder: a folder of files.
        split: ``train``, ``validation`` or ``test``.
        call: beginning of the message.

    Raises:
        DataError: there are splits, but not this one.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> (folder / "train").mkdir(), (folder / "dev").mkdir()
        (None, None)
        >>> split_folder(folder, "validation", "read").name
        'dev'
    """
    inner = {path.name.casefold(): path for path in subfolders(folder)}
    known = {name for names in SPLITS.values() for name in names}
    if not inner or not inner.keys() <= known:
        return folder
    found = next((inner[name] for name in SPLITS.get(split, (split,)) if name in inner), None)
    if found is None:
        raise DataError(
            f"{call}: the folder has the splits {shown(sorted(inner))}, but no {split!r}. Give the "
            f"folder of a split itself, such as {str(next(iter(inner.values())))!r}."
        )
    return found


def subfolders(folder: Path) -> list[Path]:
    """The folders directly in a folder, by name, without hidden ones.

    Example:
        >>> import tempfile
        >>> subfolders(Path(tempfile.mkdtemp()))
        []
    """
    return sorted(one for one in folder.iterdir() if one.is_dir() and one.name[0] not in "._")


def media_files(medium: Medium, folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of a medium directly in a folder by name, and the other files that are not hidden.

    Example:
        >>> import tempfile
        >>> from headcount.tasks.images import IMAGES
        >>> media_files(IMAGES, Path(tempfile.mkdtemp()))
        ([], [])
    """
    files = sorted(one for one in folder.iterdir() if one.name[0] != "." and not one.is_dir())
    own = [one for one in files if one.suffix.lower() in medium.suffixes]
    return own, [one for one in files if one not in set(own)]
