"""The one module that touches transformers' moving internals: how a model is built and saved.

transformers lets a configuration describe uneven layers (``per_layer_config``) but builds every
layer alike. Importing headcount teaches ``PreTrainedModel`` the rest, in two steps that every model
class goes through: at the start of ``__init__`` the account of what was cut is set aside, so that
the stock class builds its dense shape; at the end, in ``post_init``, the layers are made smaller,
before any weight is loaded. ``save_pretrained`` adds transformers' own keys to the configuration
and writes the decision and a model card beside the weights of a model that was cut. Models that
headcount did not cut are left alone.
"""

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from headcount.architectures.config import FORMAT, MARK, Left, per_layer_keys, take_mark
from headcount.checkpoints.dense import kept_of
from headcount.checkpoints.serving import install as install_serving
from headcount.errors import CheckpointError
from headcount.surgery.cut import reduce

_PENDING = "_headcount_pending"
OURS = "per_layer_keys"
"""Key of the mark in a saved configuration whose ``per_layer_config`` headcount wrote."""
_INSTALLED = "_headcount_installed"


def install(after_save: Callable[[PreTrainedModel, str], None]) -> None:
    """Teach transformers to build and save uneven models; done once, when headcount is imported.

    Args:
        after_save: called with a model and the folder it was saved to.
    """
    if _INSTALLED in PreTrainedModel.__dict__:
        return
    setattr(PreTrainedModel, "__init__", _building(PreTrainedModel.__init__))
    setattr(PreTrainedModel, "post_init", _built(PreTrainedModel.post_init))
    setattr(
        PreTrainedModel, "save_pretrained", _saving(PreTrainedModel.save_pretrained, after_save)
    )
    setattr(PreTrainedConfig, "per_layer_config", _unless_marked(PreTrainedConfig.per_layer_config))
    install_serving()
    setattr(PreTrainedModel, _INSTALLED, True)


def _building(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def __init__(
        self: PreTrainedModel, config: PreTrainedConfig, *args: Any, **kwargs: Any
    ) -> None:
        if MARK in vars(config):
            _check_format(config)
            self.__dict__[_PENDING] = take_mark(config)
        original(self, config, *args, **kwargs)

    return __init__


def _built(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def post_init(self: PreTrainedModel) -> None:
        original(self)
        left = self.__dict__.pop(_PENDING, None)
        if left:
            shrink(self, left)

    return post_init


def _saving(
    original: Callable[..., Any], after_save: Callable[[PreTrainedModel, str], None]
) -> Callable[..., Any]:
    @wraps(original)
    def save_pretrained(
        self: PreTrainedModel, save_directory: Any, *args: Any, **kwargs: Any
    ) -> Any:
        result = original(self, save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            _add_per_layer_keys(self, Path(save_directory) / "config.json")
            after_save(self, str(save_directory))
        return result

    return save_pretrained


def _unless_marked(stock: property) -> property:
    """``per_layer_config`` that says what the mark says stays in the file.

    On a live configuration it would make every key ambiguous
    that code outside of layers reads.
    """
    assert stock.fset is not None
    write = stock.fset

    def setter(self: PreTrainedConfig, value: Any) -> None:
        mark = vars(self).get(MARK)
        if value is None or not mark or not mark.get(OURS):
            write(self, value)

    return property(stock.fget, setter, stock.fdel, stock.__doc__)


def _add_per_layer_keys(model: PreTrainedModel, path: Path) -> None:
    """Say in a saved configuration, in transformers' own words, what the mark says."""
    keys = {json.dumps(left): layers for left, layers in per_layer_keys(model) if layers}
    if not keys or not path.is_file():
        return
    body = json.loads(path.read_text(encoding="utf-8"))
    _insert(body, keys)
    text = json.dumps(body, indent=2, sort_keys=True) + "\n"
    draft = path.with_suffix(".partial")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _insert(body: Any, keys: dict[str, dict[str, Any]]) -> None:
    if isinstance(body, dict):
        left = body[MARK].get("left") if isinstance(body.get(MARK), dict) else None
        known = left is not None and json.dumps(left) in keys
        if known and "per_layer_config" not in body:  # some types have one of their own
            body["per_layer_config"] = keys[json.dumps(left)]
            body[MARK][OURS] = True
        for value in body.values():
            _insert(value, keys)


def shrink(model: PreTrainedModel, left: Left) -> None:
    """Give a freshly built dense model the shape its configuration asks for.

    Args:
        model: as the stock class builds it, on any device.
        left: what the sites that were cut have left.

    Raises:
        CheckpointError: a site asks for more units than the dense model has.
    """
    with torch.device("cpu"):  # indices; from_pretrained makes everything else without memory
        reduce(model, kept_of(model, left), in_place=True)


def _check_format(config: PreTrainedConfig) -> None:
    found = getattr(config, MARK).get("format")
    if found != FORMAT:
        raise CheckpointError(
            f"from_pretrained: config.json has headcount format {found!r}; this version of "
            f"headcount reads {FORMAT}. Prune again with this version, or load with the version "
            "that wrote the folder."
        )
