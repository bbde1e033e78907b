"""Run cells in this process, or each in a process of its own."""

import abc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, cast, final

from headcount.arena.cell import attempt
from headcount.arena.grid import Cell
from headcount.arena.output import ERROR_FILE, LOG_FILE, PROGRESS_FILE, Output
from headcount.errors import PruningError
from headcount.reports.measure import environment

_GRACE_S = 10.0
"""Seconds that a process has to end after SIGTERM, before it is killed."""


class Job(abc.ABC):
    """A running cell."""

    @abc.abstractmethod
    def is_over(self) -> bool:
        """Whether it has ended."""

    @abc.abstractmethod
    def failure(self) -> str | None:
        """Why it failed; None if it finished. Asked once it is over."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End it. Its checkpoints stay, and the next call goes on from them."""


class Runner(abc.ABC):
    """Starts cells."""

    jobs: int = 1
    """Number of cells at a time."""

    @abc.abstractmethod
    def start(self, cell: Cell) -> Job:
        """Start a cell."""

    @abc.abstractmethod
    def wait(self) -> None:
        """Wait a moment before the jobs are asked again."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Here(Runner):
    """Runs a cell in this process, from start to end.

    Example:
        >>> Here.__doc__.splitlines()[0]
        'Runs a cell in this process, from start to end.'
    """

    output: Output
    """The folder of the comparison."""
    adopt: bool = False
    """Whether to take over runs that were trained elsewhere."""
    command: str | None = None
    """The command line, for the record."""

    def start(self, cell: Cell) -> Job:
        """Run a cell to its end."""
        attempt(self.output, cell, adopt=self.adopt, command=self.command)
        return _Over(self.output, cell)

    def wait(self) -> None:
        """Nothing runs, so there is nothing to wait for."""


@final
class _Over(Job):
    def __init__(self, output: Output, cell: Cell) -> None:
        self._output, self._cell = output, cell

    def is_over(self) -> bool:
        return True

    def failure(self) -> str | None:
        return self._output.failure(self._cell)

    def stop(self) -> None:
        pass


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Processes(Runner):
    """Runs each cell in a process of its own. The jobs share the cores equally.

    Raises:
        PruningError: ``jobs`` is less than one.
    """

    output: Output
    """The folder of the comparison."""
    program: Sequence[str]
    """The program that runs a cell. Its arguments are the folder, the cell's name and, if asked
    for, ``--adopt``. Its standard input stays open as long as it should run, see
    ``end_with_parent``."""
    jobs: int = 1
    """Number of cells at a time."""
    adopt: bool = False
    """Whether to take over runs that were trained elsewhere."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise PruningError(f"compare(jobs={self.jobs}): give 1 or more.")

    def start(self, cell: Cell) -> Job:
        """Start a process for a cell. What it prints goes to the cell's log."""
        folder = self.output.folder(cell)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (ERROR_FILE, PROGRESS_FILE):
            (folder / name).unlink(missing_ok=True)
        threads = max(1, environment()["num_cores"] // self.jobs)
        with (folder / LOG_FILE).open("ab") as log:
            process = subprocess.Popen(
                [*self.program, str(self.output.path), cell.name, *["--adopt"] * self.adopt],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only us; we then stop the process
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": str(threads),
                    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads leave their core to others
                },
            )
        return _Process(self.output, cell, process)

    def wait(self) -> None:
        """Sleep for a moment."""
        time.sleep(0.2)


@final
class _Process(Job):
    def __init__(self, output: Output, cell: Cell, process: "subprocess.Popen[bytes]") -> None:
        self._output, self._cell, self._process = output, cell, process

    def is_over(self) -> bool:
        return self._process.poll() is not None

    def failure(self) -> str | None:
        # The files decide, not the exit code: a process may crash after its result was written.
        code = self._process.wait()
        cast(IO[bytes], self._process.stdin).close()
        if self._output.is_finished(self._cell) and not self._output.is_gone(self._cell):
            return None
        if self._output.failure(self._cell) is None:
            killed = f"was killed by {signal.Signals(-code).name}" if code < 0 else ""
            reason = killed or f"ended with code {code} and no result"
            self._output.note_failure(self._cell, f"the process {reason}")
        return self._output.failure(self._cell)

    def stop(self) -> None:
        # To the whole group: the cell may have started processes, such as data loaders.
        for how in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                break
            os.killpg(self._process.pid, how)
            try:
                self._process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                continue
        cast(IO[bytes], self._process.stdin).close()


def end_with_parent() -> None:
    """End this process when its standard input closes: the process that started it is gone."""

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock would be held when the process ends
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
