"""A grid of methods, budgets and seeds on one task, from the first cell to the figures."""

import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import final

from rich.console import Console
from torch import Tensor
from transformers import PreTrainedModel

from headcount.architectures.discover import units
from headcount.arena.comparison import Comparison, check_files, reference
from headcount.arena.display import Display
from headcount.arena.grid import DENSE, DISTILLED, Cell, Grid, Settings, suffixes
from headcount.arena.latency import Timing, measure_latency
from headcount.arena.output import LOCK_FILE, Output
from headcount.arena.recount import Example
from headcount.arena.runner import Here, Runner
from headcount.arena.schedule import Watch, run_cells
from headcount.checkpoints.disk import alone, check_place, expanded, on_disk
from headcount.errors import PruningError, check_argument
from headcount.reports.counting import counting
from headcount.runs.data import gather, sampled
from headcount.runs.rehearse import check_task, check_trainable, rehearse

WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
"""Names of the files with a cell's weights."""
MakeRunner = Callable[[Output], Runner]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CompareOptions:
    """How a comparison is run. None of these changes a result.

    Example:
        >>> CompareOptions().keep_models
        True
    """

    runner: MakeRunner | None = None
    """Makes the runner of the cells from the output folder; None runs them in this process."""
    adopt: bool = False
    """Take over runs that were trained elsewhere, after a check."""
    keep_models: bool = True
    """Keep the weights of all cells. If not, only dense cells keep theirs, since methods start from
    them."""
    against: str | None = None
    """The method that the others are compared with; by default ``dsp``, or the first without it."""
    timing: Timing = field(default_factory=Timing)
    """How latency is measured."""
    command: str | None = None
    """The command line, for the record."""
    console: Console = field(default_factory=Console)
    """Where progress is shown."""


def compare(grid: Grid, path: str | Path, options: CompareOptions | None = None) -> Comparison:
    """Run the unfinished cells of a grid, then write tables and figures of all finished ones.

    Each cell writes its result into its own folder. After an interruption, the same call goes on. A
    call with more methods, budgets or seeds keeps what is finished. A failed cell is listed in the
    returned comparison, and the next call tries it again.

    Args:
        grid: what is compared.
        path: the output folder.
        options: how the cells are run.

    Returns:
        The results. ``unfinished`` has the cells that failed.

    Raises:
        CheckpointError: the folder belongs to something else, or another call is at work on it.
        PruningError: no cell could use the model, the data or a budget.

    Example:
        >>> from headcount.arena.grid import Settings
        >>> from headcount.methods.random import Random
        >>> settings = Settings(model="bert-base-uncased", train=("train.tsv",), eval=("dev.tsv",))
        >>> grid = Grid(settings=settings, methods={"random": Random()}, amounts=(36,),
        ...             seeds=(0, 1))
        >>> compare(grid, "runs/random")  # doctest: +SKIP
    """
    how = options or CompareOptions()
    check_argument("compare", "grid", grid, Grid, "a Grid")
    grid = replace(grid, settings=grid.settings.settled())
    check_argument("compare", "path", path, (str, Path), "a folder")
    output = Output.of(expanded(path), grid)
    check_place("output", output.path, replaced=False)
    output.refuse(adopt=how.adopt)
    check_files(output.path)
    reference([*grid.methods, *output.known_methods()], how.against)
    if _todo(output):
        check(grid, how.timing)
    again = "go on with the same call"
    with on_disk("output", output.path, again=again), _alone(output.path):
        output.open(command=how.command, adopt=how.adopt)
        # Asked again: before the lock was ours, another call may have finished some.
        failures = _run(output, _todo(output), how)
        # Saved before latency is measured, which takes long and may be interrupted.
        found = Comparison.read(output.path, against=how.against, failures=failures)
        saved = found.save()
        _time(found, grid.settings, how)
        timed = Comparison.read(output.path, against=how.against, failures=failures)
        if timed.latencies != found.latencies:
            found, saved = timed, timed.save()
        for file in saved:
            how.console.print(f"written: {file}", markup=False, highlight=False)
    return found


def check(grid: Grid, timing: Timing | None = None) -> None:
    """Refuse, before the first cell starts, what no cell could use.

    Args:
        grid: what is compared.
        timing: how latency will be measured.

    Raises:
        BudgetError: the model cannot meet the budget of a cell.
        PruningError: the model, the data or the training settings cannot be used, or the timed
            inputs are longer than the model takes.
    """
    settings = grid.settings
    rehearse(settings.recipe, grid.methods.values())
    distils = any(DISTILLED in suffixes(name) for name in grid.methods)
    check_task(settings.of_task(), settings.recipe, distils=distils)
    task_data = gather(
        settings.model, settings.of_task(), settings.train, settings.eval, settings.recipe
    )
    sampled(task_data, settings.num_train, settings.data_seed)
    model = task_data.fresh_model(settings.model)
    if timing is not None and timing.num_runs:
        task_data.example(model, timing.batch, timing.length)
    check_trainable(settings.recipe, model, distils=distils)
    found = units(model)
    for amount in grid.amounts:
        grid.budget(amount).quotas(found)


def _todo(output: Output) -> list[Cell]:
    """Unfinished cells, and the finished dense cells whose missing model one of these needs."""
    cells = output.grid.cells
    todo = {cell for cell in cells if not output.is_finished(cell)}
    needed = {output.grid.needs(cell) for cell in todo}
    return [cell for cell in cells if cell in todo or (cell in needed and output.is_gone(cell))]


def _time(found: Comparison, settings: Settings, how: CompareOptions) -> None:
    """Measure latency. A failure is printed and does not end the comparison."""
    try:
        with counting(how.console, "latency of these shapes, rounds") as rounds:
            told, example = _told(how.console), _example(settings)
            measure_latency(found.results, found.path, how.timing, told, rounds, example)
    except (PruningError, OSError) as error:
        how.console.print(f"latency: not measured: {error}", markup=False, highlight=False)


def _example(settings: Settings) -> Example:
    """What makes the inputs that are timed: those of the task, with the processor of the model."""

    def example(model: PreTrainedModel, batch: int, length: int) -> dict[str, Tensor]:
        task = settings.of_task()
        processor = task.load_processor(settings.model)
        return task.example(model, processor, batch=batch, length=length)

    return example


def _run(output: Output, todo: list[Cell], how: CompareOptions) -> dict[Cell, str]:
    here = Here(output=output, adopt=how.adopt, command=how.command)
    num_done = len(output.grid.cells) - len(todo)
    if not how.keep_models:
        drop_weights(output, output.grid.cells)
    with _interruptible(), Display(output, how.console, num_done=num_done) as display:
        return run_cells(
            todo,
            how.runner(output) if how.runner else here,
            needs=output.grid.needs,
            refused=lambda cell: output.obstacle(cell, adopt=how.adopt),
            watch=display if how.keep_models else _Thrift(output, display),
        )


def drop_weights(output: Output, cells: Iterable[Cell]) -> None:
    """Delete the weights of finished pruned cells; their configuration and decision stay."""
    for cell in cells:
        if cell.method != DENSE and output.is_finished(cell):
            for place in ("model", "recovered/model"):
                for name in WEIGHTS:
                    for weights in (output.folder(cell) / place).glob(name):
                        weights.unlink()


@final
class _Thrift(Watch):
    """Deletes the weights of each cell as soon as it is finished."""

    def __init__(self, output: Output, inner: Watch) -> None:
        self._output, self._inner = output, inner

    def began(self, cell: Cell) -> None:
        self._inner.began(cell)

    def goes_on(self, running: Collection[Cell]) -> None:
        self._inner.goes_on(running)

    def ended(self, cell: Cell, failure: str | None) -> None:
        drop_weights(self._output, [cell])
        self._inner.ended(cell, failure)


def _told(console: Console) -> Callable[[int, int], None]:
    def told(done: int, total: int) -> None:
        if total:
            console.print(f"latency: {done} of {total} shapes timed", highlight=False)

    return told


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True)
    with alone(
        path / LOCK_FILE, f"output: another call of compare is at work on {str(path)!r}", keep=True
    ):
        yield


@contextmanager
def _interruptible() -> Iterator[None]:
    """Inside, SIGTERM and a closed terminal act as Ctrl-C, so that running cells are stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    # Python sets signal handlers in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = [  # not those that are ignored, as SIGHUP is under nohup
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
