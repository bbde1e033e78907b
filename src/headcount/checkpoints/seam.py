"""The one module that touches transformers' moving internals: how a model is built and saved.

headcount changes two methods of ``PreTrainedModel`` that every model class runs. ``__init__`` first
notes the mark, which says what was cut; the stock class then builds its dense shape. ``post_init``
makes the layers smaller, before any weight is loaded.

Configurations of cut models are written with a guard, by which transformers refuses them unless
headcount is imported. ``save_pretrained`` writes the decision and a model card beside the weights.
Models that headcount did not cut are not affected.

This module is imported in the middle of transformers' own import. So it imports nothing of
transformers at its top, and the code that does the work only when there is work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from headcount.architectures.mark import MARK, Left, check_mark, mark_of
from headcount.architectures.stock import STOCK
from headcount.checkpoints.complete import BUILT_BY, completing
from headcount.checkpoints.guard import guarding, unguarding, unrepeated
from headcount.checkpoints.serving import ENTRY, asking
from headcount.errors import CheckpointError
from headcount.pieces.guard import PART, PER_LAYER

if TYPE_CHECKING:
    from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel

_PENDING = "_headcount_pending"
"""Attribute of a model between ``__init__`` and ``post_init``: its mark."""
_INSTALLED = "_headcount_installed"
"""Attribute of a class that was changed."""
_LOCK = Lock()


def teach_configurations(kind: type[PreTrainedConfig]) -> None:
    """Make configurations of cut models be written with the guard, and read without it.

    Args:
        kind: the class in transformers now. Each class is changed once.
    """
    changes = {"to_dict": guarding, "to_diff_dict": guarding, "__post_init__": unguarding}
    _change(kind, {**changes, PER_LAYER: unrepeated})


def teach_models(kind: type[PreTrainedModel]) -> None:
    """Teach the class of models to build, load and save uneven models.

    Args:
        kind: the class in transformers now. Each class is changed once.
    """
    changes = {
        "__init__": _building,
        "post_init": _built,
        "save_pretrained": _saving,
        "push_to_hub": _pushing,
        "_adjust_missing_and_unexpected_keys": completing,
    }
    _change(kind, changes)


def teach_serving(kind: type[GenerationMixin]) -> None:
    """Make continuous batching check first whether its cache fits the model.

    Args:
        kind: the class in transformers now. Each class is changed once.
    """
    if hasattr(kind, ENTRY):
        _change(kind, {ENTRY: asking})


def _change(kind: type, changes: dict[str, Callable[[Any], Any]]) -> None:
    """Replace attributes of a class by wrapped ones: attribute -> function that wraps it.

    Whichever thread comes first does it; the others find it done.
    """
    with _LOCK:
        if _INSTALLED not in vars(kind):
            for name, change in changes.items():
                setattr(kind, name, change(getattr(kind, name)))
            setattr(kind, _INSTALLED, True)


def _building(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def __init__(
        self: PreTrainedModel, config: PreTrainedConfig, *args: Any, **kwargs: Any
    ) -> None:
        mark = mark_of(config)
        if mark and not _built_by_code(self, mark):
            check_mark(mark)
            outer = _under_construction(mark)
            # Parts are built with the configuration of the whole, and so have its mark, or with a
            # copy of it. Only the whole is cut by the mark.
            if outer is None:
                self.__dict__[_PENDING] = mark
            elif config is not outer.config:  # a copy that the stock class made for a part
                config.__dict__.pop(MARK)
        elif vars(config).get(PART) and not hasattr(type(self), STOCK) and not _is_inside(self):
            raise CheckpointError(
                f"{type(self).__name__}: its configuration is that of a part of a model that "
                "headcount pruned, and does not say how. Load the whole model, with the class it "
                "was saved from, and take the part you need."
            )
        original(self, config, *args, **kwargs)

    return __init__


def _built_by_code(model: PreTrainedModel, mark: dict[str, Any]) -> bool:
    """Whether code beside the weights cuts this model, or a model around it with the same mark.

    In a standalone folder, only the whole model has a class of its own; its parts are of stock
    classes.
    """
    around = (builder for _, builder in _builders() if mark_of(vars(builder).get("config")) == mark)
    return any(hasattr(type(one), STOCK) for one in (model, *around))


def _is_inside(model: PreTrainedModel) -> bool:
    """Whether a model is built inside of another one."""
    others = (method == "__init__" for method, builder in _builders() if builder is not model)
    return next(others, False)


def _builders() -> Iterator[tuple[str, PreTrainedModel]]:
    """(method, model) for each method of a model that runs in this thread, innermost first."""
    from transformers.modeling_utils import PreTrainedModel

    frame = sys._getframe(1)
    while frame is not None:
        model = frame.f_locals.get("self")
        if isinstance(model, PreTrainedModel):
            yield frame.f_code.co_name, model
        frame = frame.f_back


def _under_construction(mark: dict[str, Any]) -> PreTrainedModel | None:
    """The model that is being built around this one and has this mark; None if there is none.

    The frames of this thread tell. A list of models under construction would keep those whose
    construction failed.
    """
    found = (builder for _, builder in _builders() if vars(builder).get(_PENDING) == mark)
    return next(found, None)


def _built(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def post_init(self: PreTrainedModel) -> None:
        original(self)
        mark = self.__dict__.pop(_PENDING, None)
        if mark is not None:
            shrink(self, mark["left"])
            self.__dict__[BUILT_BY] = mark["left"]

    return post_init


def _saving(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def save_pretrained(
        self: PreTrainedModel, save_directory: Any, *args: Any, **kwargs: Any
    ) -> Any:
        from headcount.checkpoints.folder import after_save
        from headcount.checkpoints.parts import adopt_parts

        adopt_parts(self)
        with _before_upload(self):
            result = original(self, save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            after_save(self, str(save_directory))
        return result

    return save_pretrained


def _pushing(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def push_to_hub(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        with _before_upload(self):
            return original(self, *args, **kwargs)

    return push_to_hub


@contextmanager
def _before_upload(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block, an upload includes the decision, and our card instead of a template."""
    from headcount.checkpoints.folder import after_save

    upload = model._upload_modified_files
    inside = "_upload_modified_files" in vars(model)

    def complete_first(folder: Any, *args: Any, **kwargs: Any) -> Any:
        card = Path(folder) / "README.md"
        if card.is_file() and _TEMPLATE in card.read_text(encoding="utf-8"):
            card.unlink()
        after_save(model, str(folder))
        return upload(folder, *args, **kwargs)

    vars(model)["_upload_modified_files"] = complete_first
    try:
        yield
    finally:
        if inside:
            vars(model)["_upload_modified_files"] = upload
        else:
            vars(model).pop("_upload_modified_files", None)


_TEMPLATE = "This model card has been automatically generated."
"""A sentence of the card that transformers writes for a model without one on the Hub."""


def shrink(model: PreTrainedModel, left: Left) -> None:
    """Cut a new dense model to the shape that its configuration asks for.

    Args:
        model: the model as the stock class builds it, on any device.
        left: the units that are left of each site that was cut.

    Raises:
        CheckpointError: a site is not in the dense model, or asks for more units than it has.
    """
    from headcount.architectures.discover import discover
    from headcount.checkpoints.dense import kept_of
    from headcount.surgery.cut import reduce

    with torch.device("cpu"):  # indices; from_pretrained makes everything else without memory
        found = discover(model)
        reduce(model, found, kept_of(model, found, left), in_place=True)
