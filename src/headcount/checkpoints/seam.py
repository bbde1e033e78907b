"""The one module that touches transformers' moving internals: how a model is built and saved.

transformers lets a configuration describe uneven layers (``per_layer_config``) but builds every
layer alike. Importing headcount teaches ``PreTrainedModel`` the rest, in two steps that every
model class goes through: at the start of ``__init__`` the per-layer part is set aside, so that
the stock class builds its dense shape; at the end, in ``post_init``, the layers are made smaller,
before any weight is loaded. ``save_pretrained`` writes the decision and a model card beside the
weights of a model that was cut. Models that headcount did not cut are left alone.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from headcount.architectures.config import MARK, per_layer_overrides
from headcount.architectures.discover import find_sites
from headcount.errors import CheckpointError
from headcount.surgery.cut import reduce

_PENDING = "_headcount_pending"
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
    setattr(PreTrainedModel, _INSTALLED, True)


def _building(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def __init__(
        self: PreTrainedModel, config: PreTrainedConfig, *args: Any, **kwargs: Any
    ) -> None:
        overrides = per_layer_overrides(config) if MARK in vars(config) else {}
        if overrides:
            self.__dict__[_PENDING] = overrides
            config.per_layer_config = None
        original(self, config, *args, **kwargs)

    return __init__


def _built(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def post_init(self: PreTrainedModel) -> None:
        original(self)
        overrides = self.__dict__.pop(_PENDING, None)
        if overrides:
            shrink(self, overrides)

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
            after_save(self, str(save_directory))
        return result

    return save_pretrained


def shrink(model: PreTrainedModel, overrides: dict[int, dict[str, Any]]) -> None:
    """Give a freshly built dense model the layers its configuration asks for.

    Args:
        model: as the stock class builds it, on any device.
        overrides: what each layer has other than the rest.

    Raises:
        CheckpointError: a layer asks for more units than the dense model has.
    """
    kept = {}
    for site in find_sites(model):
        count = overrides.get(site.layer, {}).get(site.config_key, site.num_units)
        if not 0 <= count <= site.num_units:
            raise CheckpointError(
                f"from_pretrained: config.json asks for {count} {site.config_key} in layer "
                f"{site.layer}; the dense layer has {site.num_units}. The configuration was "
                "changed by hand or is damaged."
            )
        if count < site.num_units:
            kept[site.module] = torch.arange(count)
    reduce(model, kept, in_place=True)
