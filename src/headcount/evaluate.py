"""Measure the quality of a saved model on data."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from headcount.checkpoints.disk import expanded_name
from headcount.checkpoints.loading import loading
from headcount.door.arguments import checks_arguments
from headcount.errors import check_argument
from headcount.runs.data import label_names, task_of
from headcount.runs.recipe import Recipe
from headcount.tasks.task import Task


@checks_arguments
def evaluate(
    folder: str | Path,
    *,
    eval: Sequence[str | Path],  # noqa: A002
    task: str | Task = "nli",
    recipe: Recipe | None = None,
) -> dict[str, float]:
    """Load a fine-tuned model, pruned or not, and measure its quality.

    Args:
        folder: a saved folder or hub id.
        eval: evaluation files.
        task: ``nli``, or a task of your own.
        recipe: gives the batch size and the longest input.

    Returns:
        The task's primary metric by its name, such as ``accuracy``.

    Raises:
        DataError: unknown task, data that does not fit, or a model without the task's labels.
        CheckpointError: there is no such model, or it has no tokenizer.

    Example:
        >>> import headcount as hc
        >>> hc.evaluate("small", eval=["dev.tsv"])  # doctest: +SKIP
        {'accuracy': 0.81}
    """
    kind, how = task_of(task), recipe or Recipe()
    check_argument("evaluate", "folder", folder, (str, Path), "a folder or hub id")
    folder = expanded_name(folder)
    names = label_names(folder)
    processor = kind.load_processor(folder)
    kind = kind.settled(eval, folder, split="validation")
    data = kind.dataset(
        eval, processor, max_length=how.max_length, split="validation", labels=names
    )
    labels = kind.labels(data)
    kind = kind.with_labels(labels)
    with loading(folder):
        model = kind.load_model(folder, labels)
    with TemporaryDirectory() as scratch:
        collator, args = kind.collator(processor), how.for_measuring().arguments(scratch)
        measured = kind.metrics(kind.predict(model, data, collator, args))
    return {kind.primary_metric: measured[kind.primary_metric]}
