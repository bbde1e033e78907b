"""Packages that only a part of headcount needs, and what is said where one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from headcount.errors import MissingPackageError

EXTRAS: dict[str, str] = {
    **dict.fromkeys(
        ("accelerate", "datasets", "matplotlib", "scipy", "seqeval", "sklearn"), "train"
    ),
    "sentence_transformers": "embedding",
    "PIL": "vision",
    **dict.fromkeys(("jiwer", "soundfile"), "speech"),
}
"""Package -> the extra of headcount that brings it."""


@contextmanager
def needing(call: str) -> Iterator[None]:
    """Around imports: where one fails for want of an extra, say which.

    Args:
        call: what needs it, for the message.

    Raises:
        MissingPackageError: a package of ``EXTRAS`` is not installed.

    Example:
        >>> with needing("prune"):
        ...     raise ModuleNotFoundError(name="datasets")
        Traceback (most recent call last):
            ...
        headcount.errors.MissingPackageError: prune: this needs datasets. Install it with: ...
    """
    try:
        yield
    except ImportError as error:
        package = missing_in(error)
        if package is None or isinstance(error, MissingPackageError):
            raise
        raise missing(call, package) from error


def missing(call: str, package: str) -> MissingPackageError:
    """The error that says how to get a package.

    Example:
        >>> print(missing("PruningTrainer", "accelerate"))
        PruningTrainer: this needs accelerate. Install it with: pip install "headcount[train]"
    """
    how = f'Install it with: pip install "headcount[{EXTRAS[package]}]"'
    return MissingPackageError(f"{call}: this needs {package}. {how}", name=package)


def missing_in(error: BaseException | None) -> str | None:
    """The package of ``EXTRAS`` for want of which an import failed; None for any other reason.

    Example:
        >>> missing_in(ModuleNotFoundError(name="datasets.fingerprint"))
        'datasets'
    """
    while error is not None:  # transformers hides the reason behind an error of its own
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        package = (name or "").partition(".")[0]
        if package in EXTRAS:
            return package
        error = error.__cause__ or error.__context__
    return None


def stand_in(name: str, package: str) -> type:
    """What a public name is where its package is missing: a class that cannot be used.

    So ``from headcount import *`` works without it, and the error comes where the name is used.

    Example:
        >>> stand_in("PruningTrainer", "accelerate")()
        Traceback (most recent call last):
            ...
        headcount.errors.MissingPackageError: PruningTrainer: this needs accelerate. Install ...
    """

    def use(*args: Any, **kwargs: Any) -> NoReturn:
        raise missing(name, package)

    return type(
        name, (), {"__new__": use, "__module__": "headcount", "__doc__": f"Needs {package}."}
    )
