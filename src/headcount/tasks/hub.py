"""Load data sets of the Hugging Face hub, or folders in the hub's layout."""

from pathlib import Path

from datasets import Dataset, load_dataset

from headcount.errors import DataError


def load_hub(source: str, *, split: str) -> Dataset:
    """One split of a data set of the hub.

    Args:
        source: ``"id"``, ``"id:config"``, ``"id:config:split"`` or ``"id::split"``; the id may
            be a folder.
        split: the split if the source names none.

    Raises:
        DataError: there is no such data set, config or split, or the hub cannot be reached.

    Example:
        >>> load_hub("nyu-mll/glue:mnli", split="train").num_rows  # doctest: +SKIP
        392702
    """
    name, config, split = parse_hub_id(source, split=split)
    try:
        return load_dataset(name, config, split=split)
    except Exception as error:  # datasets has readers for many formats, which raise anything
        said = " ".join(str(error).split())[:400]
        raise DataError(
            f"load_dataset({name!r}, {config!r}, split={split!r}): the data set cannot be loaded. "
            f"{said} Give an existing file, or a hub data set as 'id:config:split'."
        ) from error


def parse_hub_id(source: str, *, split: str) -> tuple[str, str | None, str]:
    """The id, config and split that a source names.

    Args:
        source: as for ``load_hub``.
        split: the split if the source names none.

    Example:
        >>> parse_hub_id("nyu-mll/glue:mnli:validation_matched", split="validation")
        ('nyu-mll/glue', 'mnli', 'validation_matched')
        >>> parse_hub_id("stanfordnlp/snli", split="train")
        ('stanfordnlp/snli', None, 'train')
    """
    if Path(source).is_dir():
        return source, None, split
    name, _, rest = source.partition(":")
    config, _, own_split = rest.partition(":")
    return name, config or None, own_split or split
