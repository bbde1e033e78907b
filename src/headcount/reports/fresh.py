"""Time models in a process of its own, as somebody does who loads them."""

import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from headcount.reports.measure import Told, latency_s

logger = logging.get_logger(__name__)


def fresh_latency_s(
    models: Mapping[str, nn.Module],
    inputs: Mapping[str, Any],
    *,
    num_runs: int,
    warmup: int,
    told: Told | None = None,
) -> dict[str, list[float]]:
    """``latency_s`` in a fresh process, which has done nothing else.

    A process that has trained keeps freed memory, while a fresh one returns it to the system and
    takes it anew in every pass, which costs large models more than small ones. On an accelerator,
    and for models that cannot be pickled, this process times them itself; for the latter a warning
    says so.

    Args:
        models: the models by name, all on one device; unchanged afterwards.
        inputs: keyword arguments of the models, on their device.
        num_runs: timed passes of each model, 1 or more.
        warmup: passes of each model before the first timed one.
        told: called once at the end with (rounds, rounds).

    Returns:
        For each name in ``models``, all timings in seconds, in their order.

    Example:
        >>> fresh_latency_s({"a": nn.Linear(3, 2)}, {"input": torch.zeros(1, 3)}, num_runs=4,
        ...     warmup=1)  # doctest: +SKIP
        {'a': [2.1e-05, 1.9e-05, 1.9e-05, 2.0e-05]}
    """
    parts = (part for model in models.values() for part in model.parameters())
    if any(part.device.type != "cpu" for part in parts):
        return latency_s(models, inputs, num_runs=num_runs, warmup=warmup, told=told)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "models.pt"
        try:
            torch.save((dict(models), dict(inputs)), file)
            numbers = map(str, (num_runs, warmup, torch.get_num_threads()))
            command = [sys.executable, "-m", __name__, str(file), *numbers]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        except (
            pickle.PicklingError,
            AttributeError,  # what pickle raises for functions inside functions
            TypeError,
            RuntimeError,
            subprocess.CalledProcessError,
        ) as error:
            logger.warning(
                "latency: timed in this process, since a fresh one could not load the models: %s",
                str(getattr(error, "stderr", "") or error).strip().rpartition("\n")[2],
            )
            return latency_s(models, inputs, num_runs=num_runs, warmup=warmup, told=told)
    if told is not None:
        told(num_runs, num_runs)
    return json.loads(done.stdout.rpartition("\n")[2] or done.stdout)


def main() -> None:
    """The fresh process: read the models that this file's function has written, and time them."""
    file, *numbers = sys.argv[1:]
    num_runs, warmup, num_threads = map(int, numbers)
    torch.set_num_threads(num_threads)
    models, inputs = torch.load(file, weights_only=False)
    sys.stdout.write(json.dumps(latency_s(models, inputs, num_runs=num_runs, warmup=warmup)))


if __name__ == "__main__":
    main()
