"""Load models that others have saved: turn whatever is wrong with the files into one error."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError

from headcount.errors import CheckpointError, PruningError

LOAD_YOURSELF = (
    "Read that code, load the model in Python with trust_remote_code=True, and use PruningTrainer, "
    "or decide and cut, if its layers are found."
)
"""What messages advise about a model that comes with its own code."""


@contextmanager
def loading(model: str) -> Iterator[None]:
    """Inside the block, turn every error of loading a model into one error that names it.

    Raises:
        CheckpointError: the model does not exist, or its files are damaged or not a model's.

    Example:
        >>> from transformers import AutoConfig
        >>> with loading("nowhere"):
        ...     AutoConfig.from_pretrained("nowhere")
        Traceback (most recent call last):
            ...
        headcount.errors.CheckpointError: model 'nowhere' cannot be loaded: ...
    """
    give = "Give a folder with a config.json, or the id of a model of the hub."
    if Path(model).is_file():
        raise CheckpointError(f"model {model!r} cannot be loaded: it is a file. {give}")
    try:
        yield
    except PruningError:
        raise
    except Exception as error:  # a damaged file may lead to any error
        if needs_code(error):
            give = LOAD_YOURSELF
        raise CheckpointError(f"model {model!r} cannot be loaded: {said(error)}. {give}") from error


def needs_code(error: Exception) -> bool:
    """Whether an error says that transformers refused to run the code in a model's folder.

    Example:
        >>> needs_code(ValueError("Please pass the argument `trust_remote_code=True`"))
        True
    """
    return "trust_remote_code" in str(error)


def said(error: Exception) -> str:
    r"""The first line of an error's message; with its class, if the message alone says little.

    Example:
        >>> said(ValueError("no such file\nat all")), said(KeyError("name"))
        ('no such file', "KeyError 'name'")
    """
    if needs_code(error):
        return "it needs code of its own, which headcount does not run"
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    text = text[:300].removesuffix(".")
    plain = isinstance(error, OSError | ValueError | SafetensorError | UnpicklingError)
    return text if plain and text else f"{type(error).__name__} {text}".rstrip()
