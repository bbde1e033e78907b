"""``headcount eval``: a saved model's quality."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headcount.cli import options
from headcount.cli.show import clean_errors
from headcount.cli.tasks import task_with
from headcount.evaluate import evaluate
from headcount.runs.recipe import Recipe

console = Console()
RECIPE = options.defaults(Recipe)


def eval_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a saved model, such as small.")],
    eval: Annotated[  # noqa: A002
        list[str], typer.Option(help=f"Evaluation data. {options.FILES}.")
    ],
    task: options.Task = "nli",
    task_set: options.TaskSet = None,
    batch_size: options.BatchSize = RECIPE.batch_size,
    max_length: options.MaxLength = RECIPE.max_length,
) -> None:
    """Measure the quality of a saved model.

    [bold]Example[/]

      headcount eval small --eval test.tsv
    """
    with clean_errors(console):
        recipe = Recipe(batch_size=batch_size, max_length=max_length)
        numbers = evaluate(folder, task=task_with(task, task_set), eval=eval, recipe=recipe)
        for name, value in numbers.items():
            console.print(f"{name}: {value:.4f}")
