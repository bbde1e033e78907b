"""A folder of small JSON files as one compressed file: a line for each folder in it.

``arena.py`` keeps what a comparison has found in such a file. A line is a mapping: the key
``folder`` has the folder's name, ``.`` for the outermost one, and each other key is the name of a
file in it, with its values.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from headcount.door.atomic import write_text
from headcount.door.files import read_text

WHOLE = "."
"""The outermost folder."""
COLLECTED = "collected.json"
"""In it: means, spreads and differences of a comparison, and where they come from."""

Files = dict[str, Any]
"""Name of a file, as seen from its folder -> its values."""


def read_folder(folder: Path, names: Iterable[str]) -> Files:
    """Those of the files that a folder has.

    Args:
        folder: the folder.
        names: names of files.
    """
    there = [name for name in names if (folder / name).is_file()]
    return {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in there}


def write(path: Path, folders: Mapping[str, Files]) -> None:
    """Write folders, by their names, into one file."""
    lines = [json.dumps({"folder": name, **files}) for name, files in folders.items()]
    write_text(path, "\n".join(lines) + "\n")


def read(path: Path) -> dict[str, Files]:
    """The folders that ``write`` has written."""
    lines = [json.loads(line) for line in read_text(path).splitlines()]
    return {line.pop("folder"): line for line in lines}


def unpack(files: Files, folder: Path) -> None:
    """Write the files of one folder."""
    for name, values in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / name, json.dumps(values, indent=1) + "\n")
