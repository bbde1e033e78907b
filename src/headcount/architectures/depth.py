"""Take removed layers out of their lists, to the shape that a stock class builds with fewer layers.

After surgery, a removed layer is still in its list, as a stand-in that returns its input. Without
it the model is the same only if everything that depends on a layer's number follows.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn
from transformers import GenerationConfig, PreTrainedConfig

from headcount.architectures.locations import owner_of
from headcount.architectures.maps import is_skipped
from headcount.architectures.per_layer import (
    renumbered,
    renumbered_around,
    renumbered_generation,
)
from headcount.errors import ArchitectureError

MOVED = "headcount_moved"
"""Attribute of a model whose removed layers were taken out: layer name before -> name now."""

NUM_LAYERS = (
    "num_hidden_layers",
    "num_layers",
    "n_layers",
    "n_layer",
    "depth",
    "encoder_layers",
    "encoder_num_layers",
    "num_encoder_layers",
    "encoder_num_hidden_layers",
    "decoder_layers",
    "decoder_num_layers",
    "num_decoder_layers",
    "decoder_num_hidden_layers",
)
"""Configuration keys for the number of layers."""

LAYER_INDEX = ("layer_idx", "layer_id", "layer_index", "layer_number", "layer_num", "block_idx")
"""Attributes of modules with the number of their layer."""

Shape = tuple[str, ...]
"""Configuration keys that together say how long one list of layers is."""


def name_now(model: nn.Module, name: str) -> str:
    """The name of a module after the last cut, which may have taken layers out of their list.

    Args:
        model: a model that was cut.
        name: the module's name when the decision was made.

    Returns:
        The name now; empty if the module was removed with its layer.
    """
    moved: dict[str, str] = vars(model).get(MOVED, {})
    lists = {before.rpartition(".")[0] for before in moved}
    for path in lists:
        number = name.removeprefix(f"{path}.").partition(".")[0]
        if name.startswith(f"{path}.") and number.isdecimal():
            before = f"{path}.{number}"
            return moved[before] + name.removeprefix(before) if before in moved else ""
    return name


class Shorter:
    """Takes removed layers out of a model, and can put everything back.

    Example:
        >>> import transformers
        >>> Shorter(transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))).possible
        False
    """

    def __init__(self, model: nn.Module) -> None:
        """Nothing is changed yet."""
        self.moved: dict[str, str] = {}
        self._model = model
        self._undo: list[Callable[[], None]] = []
        self._lists = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList) and any(map(is_skipped, module))
        }
        # For each list, the sets of configuration keys that may give its length.
        self._options = [_names_of_length(model, *entry) for entry in self._lists.items()]

    @property
    def possible(self) -> bool:
        """Whether there are removed layers, and everything that depends on numbers can follow."""
        # A stand-in outside of a plain list cannot be taken out; nor can all layers of a list.
        inside = {id(layer) for layers in self._lists.values() for layer in layers}
        loose = any(id(m) not in inside for m in self._model.modules() if is_skipped(m))
        if loose or not all(self._options) or not all(map(_kept, self._lists.values())):
            return False
        try:
            return bool(self._lists) and all(itertools.starmap(self._changes, self._lists.items()))
        except ArchitectureError:
            return False

    def attempts(self) -> Iterator[None]:
        """Take the layers out, once for each set of configuration keys that may say it.

        Everything is put back after each attempt. Leave the loop to keep the current one.
        """
        for names in itertools.product(*self._options):
            for (path, layers), keys in zip(self._lists.items(), names, strict=True):
                self._shorten(path, layers, keys)
            yield
            self.restore()

    def restore(self) -> None:
        """Put the model back as it was, the last change first."""
        while self._undo:
            self._undo.pop()()
        self.moved.clear()

    def _shorten(self, path: str, layers: nn.ModuleList, keys: Shape) -> None:
        # The changes first: they are worked out from the list as it is.
        changes, before, kept = self._changes(path, layers), list(layers), _kept(layers)
        self._put(layers, [before[number] for number in kept])
        self._undo.append(lambda: self._put(layers, before))
        for new, old in enumerate(kept):
            self.moved[f"{path}.{old}"] = f"{path}.{new}"
            for module in before[old].modules():
                self._renumber(module, old, new)
        # Some models keep the number of layers in an attribute of their own, and loop over it.
        holder = vars(self._model.get_submodule(path.rpartition(".")[0]))
        for key in NUM_LAYERS:
            if holder.get(key) == len(before):
                holder[key] = len(kept)
                self._undo.append(lambda k=key: holder.__setitem__(k, len(before)))
        for config, entries in changes:
            self._tell(config, entries)
        owner = owner_of(self._model, path)
        if owner is not None:
            self._tell(owner.config, dict.fromkeys(keys, len(kept)))
        # Generation configurations name layers of the decoder only.
        if "encoder" not in path.split("."):
            self._tell_generation(kept, len(before))

    def _changes(
        self, path: str, layers: nn.ModuleList
    ) -> list[tuple[PreTrainedConfig, dict[str, Any]]]:
        """The new entries of all configurations that name layers of a list."""
        owner, whole = owner_of(self._model, path), vars(self._model)["config"]
        assert owner is not None
        kept, total = _kept(layers), len(layers)
        changes = [(owner.config, renumbered(owner.config, kept, total))]
        if whole is not owner.config:
            changes += renumbered_around(whole, owner.config, kept, total)
        return changes

    def _put(self, layers: nn.ModuleList, members: list[nn.Module]) -> None:
        layers._modules = {str(number): layer for number, layer in enumerate(members)}

    def _renumber(self, module: nn.Module, old: int, new: int) -> None:
        for key in LAYER_INDEX:
            # An attribute with another value counts something else, such as attention layers only.
            value = vars(module).get(key)
            if isinstance(value, int) and value == old and new != old:
                setattr(module, key, new)
                self._undo.append(lambda m=module, k=key, v=old: setattr(m, k, v))

    def _tell(self, config: PreTrainedConfig, entries: Mapping[str, Any]) -> None:
        # The whole dictionary is kept, since setting one key may set others.
        values = dict(vars(config))
        self._undo.append(lambda: (config.__dict__.clear(), config.__dict__.update(values))[0])
        for key, value in entries.items():
            setattr(config, key, value)

    def _tell_generation(self, kept: list[int], total: int) -> None:
        values = vars(self._model)
        before = values.get("generation_config")
        if not isinstance(before, GenerationConfig):
            return
        after = copy.deepcopy(before)
        for key, value in renumbered_generation(before, kept, total).items():
            if value is None:
                delattr(after, key)
            else:
                setattr(after, key, value)
        values["generation_config"] = after
        self._undo.append(lambda: values.__setitem__("generation_config", before))


def _kept(layers: nn.ModuleList) -> list[int]:
    return [number for number, layer in enumerate(layers) if not is_skipped(layer)]


def _names_of_length(model: nn.Module, path: str, layers: nn.ModuleList) -> list[Shape]:
    """The sets of configuration keys that may say how long a list is, the likeliest first.

    Only keys whose value is the length count: first those with the name of the list's stack
    (``decoder_layers``), then these with neutral ones, then neutral ones alone (``num_layers``).
    """
    owner = owner_of(model, path)
    if owner is None:
        return []
    values = vars(owner.config)
    same = [name for name in NUM_LAYERS if values.get(name) == len(layers)]
    tokens = path.split(".")
    stack = next((token for token in ("decoder", "encoder") if token in tokens), "")
    own = tuple(name for name in same if stack and stack in name)
    neutral = tuple(name for name in same if "encoder" not in name and "decoder" not in name)
    ways = [own or neutral, (*own, *neutral), neutral]
    return list(dict.fromkeys(way for way in ways if way))
