"""Start a process without headcount, and let it load saved folders."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

START_S = 120.0
"""The most seconds that the process may take to start."""


@contextmanager
def stranger() -> Iterator[str]:
    """Run ``alone.py``, which never imports headcount, inside a block.

    Yields:
        Its address, for `Visit`. The process may still be starting.
    """
    # -P: otherwise Python would put the folder of alone.py on its path, whose files would hide
    # modules of the same names.
    with TemporaryDirectory() as folder:
        address = str(Path(folder) / "socket")
        program = str(Path(__file__).with_name("alone.py"))
        command = [sys.executable, "-P", program, address]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield address
            finally:
                process.kill()


class Visit:
    """A connection to the process, opened at the first question."""

    def __init__(self, address: str) -> None:
        self._address, self._line = address, None

    def load(
        self, folder: str, model: PreTrainedModel, inputs: dict[str, Tensor]
    ) -> str | dict[str, Any]:
        """Let the process load a folder with the class of a model, and run the loaded model.

        Returns:
            The error, or a dictionary with ``weights`` and ``outputs``.
        """
        line = self._line = self._line or _connected(self._address)
        with TemporaryDirectory() as scratch:
            given, made = f"{scratch}/inputs.pt", f"{scratch}/outputs.pt"
            torch.save(inputs, given)
            experts = model.config._experts_implementation
            module, name = type(model).__module__, type(model).__name__
            line.send((folder, module, name, experts, given, made))
            return line.recv() or torch.load(made)


def _connected(address: str) -> Connection:
    end = time.monotonic() + START_S
    while True:
        try:
            return Client(address, "AF_UNIX")
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
