"""The one module that touches transformers' moving internals: how a model is built and saved.

headcount teaches ``PreTrainedModel`` to build uneven layers, in two steps that every model class
goes through: at the start of ``__init__`` the account of what was cut is noted, and the stock class
builds its dense shape; at the end, in ``post_init``, the layers are made smaller, before any weight
is loaded. Configurations of such models are written with a guard that makes transformers refuse
them where headcount is not imported. ``save_pretrained`` writes the decision and a model card
beside the weights of a model that was cut. Models that headcount did not cut are left alone.

This is imported in the middle of transformers' own import, so it imports nothing of transformers,
and what the work itself needs only when there is work.
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
_INSTALLED = "_headcount_installed"
_LOCK = Lock()


def teach_configurations(kind: type[PreTrainedConfig]) -> None:
    """Have configurations of cut models written with the guard, and read without it.

    Args:
        kind: the class that transformers has now; done once for each.
    """
    changes = {"to_dict": guarding, "to_diff_dict": guarding, "__post_init__": unguarding}
    _change(kind, {**changes, PER_LAYER: unrepeated})


def teach_models(kind: type[PreTrainedModel]) -> None:
    """Have uneven models built, loaded and saved.

    Args:
        kind: the class that transformers has now; done once for each.
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
    """Have continuous batching ask first whether its cache fits the model.

    Args:
        kind: the class that transformers has now; done once for each.
    """
    if hasattr(kind, ENTRY):
        _change(kind, {ENTRY: asking})


def _change(kind: type, changes: dict[str, Callable[[Any], Any]]) -> None:
    """Replace attributes of a class by what is made of them; once, whoever comes first."""
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
    """Whether code beside the weights makes what the mark says, of the model or of one around it.

    The model around it is of a class there, its parts are of the stock classes.
    """
    around = (builder for _, builder in _builders() if mark_of(vars(builder).get("config")) == mark)
    return any(hasattr(type(one), STOCK) for one in (model, *around))


def _is_inside(model: PreTrainedModel) -> bool:
    """Whether a model is built while another one is."""
    others = (method == "__init__" for method, builder in _builders() if builder is not model)
    return next(others, False)


def _builders() -> Iterator[tuple[str, PreTrainedModel]]:
    """The methods of models that run in this thread, the innermost first, and their models."""
    from transformers.modeling_utils import PreTrainedModel

    frame = sys._getframe(1)
    while frame is not None:
        model = frame.f_locals.get("self")
        if isinstance(model, PreTrainedModel):
            yield frame.f_code.co_name, model
        frame = frame.f_back


def _under_construction(mark: dict[str, Any]) -> PreTrainedModel | None:
    """The model around the one that is being built, if the mark is about that one.

    The frames of this thread are asked, as nothing else knows when a construction fails.
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
    """Inside, an upload finds what ``after_save`` writes, and its card instead of a template."""
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
"""Stands in the card that transformers makes for a model that has none on the Hub."""


def shrink(model: PreTrainedModel, left: Left) -> None:
    """Give a freshly built dense model the shape its configuration asks for.

    Args:
        model: as the stock class builds it, on any device.
        left: what the sites that were cut have left.

    Raises:
        CheckpointError: a site asks for more units than the dense model has, or is not in it.
    """
    from headcount.architectures.discover import discover
    from headcount.checkpoints.dense import kept_of
    from headcount.surgery.cut import reduce

    with torch.device("cpu"):  # indices; from_pretrained makes everything else without memory
        found = discover(model)
        reduce(model, found, kept_of(model, found, left), in_place=True)
