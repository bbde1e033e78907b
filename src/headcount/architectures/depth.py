"""Removed layers, taken out of their lists: the shape that a stock class builds with fewer layers.

After surgery a removed layer is still there and hands its input on. The stock class can build the
same model with fewer layers if nothing depends on where in the list a layer stands.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from headcount.architectures.maps import is_skipped
from headcount.architectures.places import owner_of, parts_of

MOVED = "headcount_moved"
"""Attribute of a model whose removed layers were taken out: name of a layer -> its name now."""

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
"""Names that configurations use for the length of a list of layers."""

LAYER_INDEX = ("layer_idx", "layer_id", "layer_index", "layer_number", "layer_num", "block_idx")
"""Attributes of modules that say where in the list their layer stands."""

EACH_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers")
"""Lists of configurations with an entry for each layer."""

_BY_POSITION = re.compile(
    r"feature_layer|select_layer|out_(indices|features)|indices|index(es)?$|deepstack|"
    r"weighted_layer|kv_shared"
)
"""Names of settings that mean layers by their position."""

Shape = tuple[str, ...]


class Shorter:
    """A model without the layers that were removed, until it is put back.

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
        self._options = [_names_of_length(model, *entry) for entry in self._lists.items()]

    @property
    def possible(self) -> bool:
        """Whether there are such layers, and nothing is known that depends on their position."""
        config = vars(self._model).get("config")
        inside = {id(layer) for layers in self._lists.values() for layer in layers}
        loose = any(id(m) not in inside for m in self._model.modules() if is_skipped(m))
        return bool(self._lists) and not loose and not any(map(_by_position, parts_of(config)))

    def attempts(self) -> Iterator[None]:
        """Take the layers out; once for each way to say it in the configuration."""
        for names in itertools.product(*self._options):
            for (path, layers), keys in zip(self._lists.items(), names, strict=True):
                self._shorten(path, layers, keys)
            yield
            self.restore()

    def restore(self) -> None:
        """Put the model back as it was."""
        while self._undo:
            self._undo.pop()()
        self.moved.clear()

    def _shorten(self, path: str, layers: nn.ModuleList, keys: Shape) -> None:
        before, total = list(layers), len(layers)
        kept = [number for number, layer in enumerate(before) if not is_skipped(layer)]
        self._put(layers, [before[number] for number in kept])
        self._undo.append(lambda: self._put(layers, before))
        for new, old in enumerate(kept):
            self.moved[f"{path}.{old}"] = f"{path}.{new}"
            for module in before[old].modules():
                self._renumber(module, old, new)
        owner = owner_of(self._model, path)
        if owner is not None:
            self._tell(owner.config, keys, kept, total)

    def _put(self, layers: nn.ModuleList, members: list[nn.Module]) -> None:
        layers._modules = {str(number): layer for number, layer in enumerate(members)}

    def _renumber(self, module: nn.Module, old: int, new: int) -> None:
        for key in LAYER_INDEX:
            value = vars(module).get(key)
            if isinstance(value, int) and value == old and new != old:
                setattr(module, key, new)
                self._undo.append(lambda m=module, k=key, v=old: setattr(m, k, v))

    def _tell(self, config: PreTrainedConfig, keys: Shape, kept: list[int], total: int) -> None:
        values = dict(vars(config))
        self._undo.append(lambda: (config.__dict__.clear(), config.__dict__.update(values))[0])
        for key in keys:
            setattr(config, key, len(kept))
        for key in EACH_LAYER:
            entries = values.get(key)
            if isinstance(entries, list | tuple) and len(entries) == total:
                config.__dict__[key] = [entries[number] for number in kept]


def _names_of_length(model: nn.Module, path: str, layers: nn.ModuleList) -> list[Shape]:
    """Which names of the configuration may say how long a list is: those of its stack first."""
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


def _by_position(config: PreTrainedConfig) -> bool:
    """Whether a configuration means layers by their position in a way not known here."""
    values: dict[str, Any] = vars(config)
    listed = (
        isinstance(value, list | tuple) and value and "layer" in key and key not in EACH_LAYER
        for key, value in values.items()
    )
    named = (
        value not in (None, False, [], ())
        for key, value in values.items()
        if _BY_POSITION.search(key) and not key.startswith("_")
    )
    return any(listed) or any(named)
