"""The folder of a comparison: what was asked for, what is finished, what failed."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, Self, TypedDict, final

from headcount.arena.axis import AXES, HEADS, Amount, check_alike
from headcount.arena.grid import DENSE, Cell, Grid, Settings, bare, digest
from headcount.door.atomic import DRAFT, write_text
from headcount.door.files import checked, parse_json, read_text
from headcount.door.shape import Count, Matching, Misfit, fit, short
from headcount.errors import CheckpointError, PruningError
from headcount.methods.method import Method
from headcount.runs.data import describe_model
from headcount.runs.run import RESULT_FILE
from headcount.tasks import TASKS

FORMAT = 1
GRID_FILE = "grid.json"
"""Settings, methods and cells of all calls so far."""
SPEC_FILE = "cell.json"
"""In the folder of a cell: its specification, which is written before its other files."""
ERROR_FILE = "error.json"
"""In the folder of a cell: why its last attempt failed."""
LOG_FILE = "log.txt"
"""In the folder of a cell: what was printed."""
PROGRESS_FILE = "progress.json"
"""In the folder of a cell: its progress."""
BEFORE_FILE = "result.before.json"
"""In the folder of a dense cell whose model is gone: its result, until it is trained again."""
LOCK_FILE = "lock"
"""The lock that a call holds while it works on the folder."""
_BEGUN = {LOCK_FILE, f"{LOCK_FILE}.json"}
_NOTES = {SPEC_FILE, ERROR_FILE, LOG_FILE, PROGRESS_FILE}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """The folder of a comparison, with a folder for each cell.

    Example:
        >>> from headcount.methods.random import Random
        >>> settings = Settings(model="bert", train=("train.tsv",), eval=("dev.tsv",))
        >>> grid = Grid(settings=settings, methods={"random": Random()}, amounts=(12,),
        ...             seeds=(0,))
        >>> output = Output.of(Path("runs/bert"), grid)
        >>> [output.is_finished(cell) for cell in grid.cells]
        [False, False]
    """

    path: Path
    """The folder."""
    grid: Grid
    """What is asked for."""
    described: Mapping[str, Any]
    """The settings that a later call must repeat, see ``Settings.described``."""
    model: list[Any] | None
    """The model that a later call must use, see ``describe_model``; None in older folders."""

    @classmethod
    def of(cls, path: Path, grid: Grid) -> Self:
        """The folder of a grid. Nothing is written yet."""
        model = describe_model(grid.settings.model)
        return cls(path=path, grid=grid, described=grid.settings.described(), model=model)

    @classmethod
    def read(cls, path: Path, methods: Mapping[str, Method]) -> Self:
        """Read a folder that ``open`` has made.

        Args:
            path: the folder.
            methods: name -> method, at least for those in the folder.

        Raises:
            CheckpointError: there is no comparison, or it is damaged or has an unknown method.
        """
        saved = read_grid(path)
        cells = [Cell.of(cell) for cell in saved["cells"]]
        give = "Go on with the command that began it, or take another folder."
        with checked(f"output {str(path)!r}: {GRID_FILE}", give=give):
            unknown = [name for name in saved["methods"] if bare(name) not in methods]
            if unknown:
                raise Misfit(unknown[0], f"one of {', '.join(methods)}", place="methods")
            settings = Settings.of(saved["settings"])
        grid = Grid(
            settings=settings,
            methods={name: methods[bare(name)] for name in saved["methods"]},
            amounts=tuple(dict.fromkeys(c.amount for c in cells if c.amount is not None)),
            seeds=tuple(dict.fromkeys(c.seed for c in cells)),
        )
        described, model = saved["described"], saved.get("model")
        return cls(path=path, grid=grid, described=described, model=model)

    def open(self, *, command: str | None = None, adopt: bool = False) -> None:
        """Make the folder, or add methods, budgets and seeds to a comparison that is there.

        What this call asks for comes first, also in tables and figures.

        Args:
            command: the command line, for the record.
            adopt: see ``refuse``.

        Raises:
            CheckpointError: see ``refuse``.
        """
        self.refuse(adopt=adopt)
        saved = read_json(self.path / GRID_FILE) or {"methods": {}, "cells": []}
        cells, mine = [cell.plain() for cell in self.grid.cells], self._methods()
        body = {
            "format": FORMAT,
            "described": self.described,
            "settings": self.grid.settings.plain(),
            "model": self.model,
            "methods": {**mine, **{k: v for k, v in saved["methods"].items() if k not in mine}},
            "cells": [*cells, *(cell for cell in saved["cells"] if cell not in cells)],
            "command": command,
        }
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / GRID_FILE, body)

    def refuse(self, *, adopt: bool = False) -> None:
        """Refuse a folder that cannot belong to this comparison. Nothing is written.

        Args:
            adopt: allow cells that no call of ``compare`` has made.

        Raises:
            CheckpointError: the folder holds no comparison, or one with other settings.
        """
        if (self.path / GRID_FILE).is_file():
            saved, mine = read_grid(self.path), self._methods()
            self._refuse_other_numbers(saved["described"])
            self._refuse_changes(saved["described"], self.described)
            known = {name: saved["methods"].get(name, plain) for name, plain in mine.items()}
            self._refuse_changes({"method": known}, {"method": mine})
            was = saved.get("model") or self.model
            self._refuse_changes({"files of model": was}, {"files of model": self.model})
            before = [Cell.of(cell).amount for cell in saved["cells"]]
            check_alike([*self.grid.amounts, *(k for k in before if k is not None)])
            return
        others = {path.name for path in _whole(self.path)} - _BEGUN
        if others and not adopt:
            raise CheckpointError(
                f"output {str(self.path)!r} exists and has no {GRID_FILE}, so compare did not make "
                "it. Give another folder, or move this one away. If its cells are runs that were "
                "trained elsewhere, give --adopt."
            )

    def known_methods(self) -> list[str]:
        """The methods of earlier calls."""
        return list((read_json(self.path / GRID_FILE) or {"methods": {}})["methods"])

    def folder(self, cell: Cell) -> Path:
        """The folder of a cell."""
        return self.path / cell.name

    def spec(self, cell: Cell) -> dict[str, Any]:
        """Everything that a cell's result depends on."""
        return {
            **cell.plain(),
            "described": self.grid.described(cell),
            "settings": dict(self.described),
        }

    def is_finished(self, cell: Cell) -> bool:
        """Whether there is a result, and its specification is that of this cell."""
        return saved_result(self.folder(cell)).get("digest") == digest(self.spec(cell))

    def is_gone(self, cell: Cell) -> bool:
        """Whether a dense cell is finished but its model, from which others start, is gone."""
        folder = self.folder(cell)
        is_there = (folder / RESULT_FILE).is_file() and any(
            (folder / "model").glob("*.safetensors")
        )
        return cell.method == DENSE and self.is_finished(cell) and not is_there

    def set_aside(self, cell: Cell) -> None:
        """Rename a cell's result before the cell is trained again. It counts until then."""
        result = self.folder(cell) / RESULT_FILE
        if "digest" in (read_json(result) or {}):
            result.replace(result.with_name(BEFORE_FILE))
        result.unlink(missing_ok=True)

    def settle(self, cell: Cell) -> None:
        """Delete the result that was set aside, now that the new one is there."""
        (self.folder(cell) / BEFORE_FILE).unlink(missing_ok=True)

    def obstacle(self, cell: Cell, *, adopt: bool) -> str | None:
        """Why a cell cannot run in its folder; None if it can."""
        folder, name = self.folder(cell), str(self.folder(cell))
        if not folder.is_dir():
            return None
        saved = read_json(folder / SPEC_FILE)
        if saved is not None:
            mine = json.loads(json.dumps(self.spec(cell)))
            change = first_change(saved, mine)
            return change and f"{name!r} is a cell with {change}. Move it away."
        # Notes are left by a cell that was killed before its specification was written.
        if {path.name for path in _whole(folder)} <= _NOTES:
            return None
        if not (folder / RESULT_FILE).is_file():
            return f"{name!r} holds files that compare did not make. Move it away."
        if not adopt:
            return (
                f"{name!r} holds a run that compare did not train. Give --adopt to check it and "
                "take it over, or move it away."
            )
        return None

    def failure(self, cell: Cell) -> str | None:
        """Why the last attempt of an unfinished cell failed; None if none did."""
        return read_failure(self.folder(cell))

    def note_failure(self, cell: Cell, reason: str) -> None:
        """Write down why a cell failed, with the last lines of its log."""
        folder = self.folder(cell)
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / LOG_FILE
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        body = {"reason": reason, "log": text.splitlines()[-20:]}
        write_json(folder / ERROR_FILE, body)

    def _methods(self) -> dict[str, Any]:
        """Method -> its name and settings, as values that were read from JSON."""
        cells = {cell.method: cell for cell in self.grid.cells if cell.amount is not None}
        plain = {method: self.grid.described(cell) for method, cell in cells.items()}
        return json.loads(json.dumps(plain))

    def _refuse_other_numbers(self, saved: Mapping[str, Any]) -> None:
        was, now = (described.get("numbers", 1) for described in (saved, self.described))
        if was != now:
            raise CheckpointError(
                f"output: {str(self.path)!r} was begun with a version of headcount whose runs give "
                f"other numbers from the same settings (numbers = {was}, here {now}). Finish it "
                "with that version, or give another folder."
            )

    def _refuse_changes(self, saved: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
        change, axis = first_change(saved, mine), self.grid.settings.axis
        if change:
            raise CheckpointError(
                f"output: {str(self.path)!r} holds a comparison with {change}. Go on with its "
                f"settings, or give another folder; methods, {axis} and seeds may be added."
            )


def first_change(saved: Mapping[str, Any], mine: Mapping[str, Any], front: str = "") -> str | None:
    """The first difference between two settings, in words; None if they are equal.

    Example:
        >>> first_change({"recipe": {"epochs": 3.0}}, {"recipe": {"epochs": 1.0}})
        'recipe.epochs = 3.0, this one has 1.0'
    """
    for name in sorted(saved.keys() | mine.keys()):
        one, other = saved.get(name), mine.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            return first_change(one, other, f"{front}{name}.")
        return f"{front}{name} = {one!r}, this one has {other!r}"
    return None


def in_short(failure: str) -> str:
    """The first 160 characters of a reason, on one line.

    Example:
        >>> in_short("KeyError: 'a'"), len(in_short("very " * 100))
        ("KeyError: 'a'", 160)
    """
    line = " ".join(failure.split())
    return line if len(line) <= 160 else f"{line[:157]}..."


class _Cell(TypedDict):
    """A cell as it is written, beside its amount of the axis.

    The method's name is checked, since it becomes a folder's name.
    """

    method: Annotated[str, Matching(r"[a-z0-9]+([-+_][a-z0-9]+)*", "the name of a method")]
    seed: Count


class _Settings(TypedDict):
    """The settings that are read before ``Settings`` is made from them."""

    task: str
    axis: NotRequired[str]


class _Grid(TypedDict):
    """The content of ``grid.json``, as ``Output.open`` writes it."""

    described: dict[str, Any]
    settings: _Settings
    model: NotRequired[list[Any] | None]
    methods: dict[str, dict[str, Any]]
    cells: list[_Cell]
    command: str | None


class _Failure(TypedDict):
    """What is read of ``error.json``."""

    reason: str


def read_grid(path: Path) -> dict[str, Any]:
    """Read ``grid.json``.

    Raises:
        CheckpointError: there is no comparison, or it is damaged or from another version.
    """
    saved = read_json(path / GRID_FILE)
    if saved is None or saved.get("format") != FORMAT:
        found = "no comparison" if saved is None else f"format {short(saved.get('format'))}"
        raise CheckpointError(
            f"output {str(path)!r}: {found} there; this version of headcount reads format "
            f"{FORMAT}. Give the output folder of headcount compare."
        )
    give = f"The file was changed: take the one that compare wrote, or delete {GRID_FILE} to adopt "
    with checked(f"output {str(path)!r}: {GRID_FILE}", give=f"{give}the cells (--adopt)."):
        grid: dict[str, Any] = fit(saved, _Grid, plain=True)
        if grid["settings"]["task"] not in TASKS:
            raise Misfit(grid["settings"]["task"], f"one of {sorted(TASKS)}", place="settings.task")
        axis = grid["settings"].get("axis", HEADS)
        if axis not in AXES:
            raise Misfit(axis, f"one of {', '.join(AXES)}", place="settings.axis")
        for i, cell in enumerate(grid["cells"]):
            if axis not in cell or len({*cell} & {*AXES}) > 1:
                raise Misfit(sorted(cell), f"a cell with {axis!r} alone", place=f"cells[{i}]")
            try:
                fit(cell[axis], Amount | None, plain=True)
            except Misfit as misfit:
                raise misfit.below(f"cells[{i}].{axis}") from None
        if not grid["methods"]:
            raise Misfit(grid["methods"], "one method or more", place="methods")
        return grid


def asked(path: Path) -> Iterable[Cell]:
    """The cells that were asked for by all calls so far."""
    return [Cell.of(cell) for cell in read_grid(path)["cells"]]


def read_failure(folder: Path) -> str | None:
    """Why the last attempt of a cell failed; None if none did."""
    found: _Failure | None = read_json(folder / ERROR_FILE, _Failure)
    return None if found is None else found["reason"]


def saved_result(folder: Path) -> dict[str, Any]:
    """The result in a cell's folder; empty if there is none."""
    # A result without a digest is of a cell that is still at work, or of a run from elsewhere.
    for name in (RESULT_FILE, BEFORE_FILE):
        found = read_json(folder / name) or {}
        if "digest" in found:
            return found
    return {}


def has_result(folder: Path, described: Mapping[str, Any]) -> bool:
    """Whether a cell's folder holds a finished result that was made with these settings."""
    spec = read_json(folder / SPEC_FILE) or {}
    result = saved_result(folder)
    return result.get("digest") == digest(spec) and spec.get("settings") == described


def read_json(path: Path, wanted: Any = dict[str, Any]) -> Any:
    """Read a JSON file; None if it is missing, incomplete or of another shape.

    Args:
        path: the file.
        wanted: the shape of its content, see ``fit``.
    """
    try:
        return parse_json(read_text(path), wanted)
    except (OSError, Misfit, PruningError):
        return None


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Write a JSON file completely or not at all."""
    write_text(path, json.dumps(body, indent=1) + "\n")


def _whole(folder: Path) -> Iterator[Path]:
    """The entries of a folder, without the drafts that a killed process leaves."""
    return (path for path in folder.glob("*") if path.suffix != DRAFT)
