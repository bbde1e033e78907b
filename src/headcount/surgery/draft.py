"""A plan in the making: slices of tensors, and what takes the place of modules."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from headcount.architectures.maps import tensors, width
from headcount.units.site import Part


@dataclass(frozen=True, slots=True)
class Plan:
    """Slices of tensors, and the structure that ``headcount.pieces.rebuild`` makes."""

    index: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    """Parameter -> dimension -> the indices to take, [I]; or [E, I], those of each expert."""
    copies: dict[str, tuple[str, int, Tensor]] = field(default_factory=dict)
    """New parameter -> the parameter it is taken from, dimension, indices."""
    structure: dict[str, Any] = field(default_factory=dict)
    """As plain values."""


SIZES: dict[type[nn.Module], dict[str, int]] = {
    nn.Linear: {"out_features": 0, "in_features": 1},
    Conv1D: {"nx": 0, "nf": 1},
    nn.Embedding: {"embedding_dim": 1},
}
"""Attributes that say how wide a map is -> the dimension of its weight."""

ONCE = {
    "own_bias": "OwnBias",
    "own_slopes": "OwnSlopes",
    "own_width": "OwnWidth",
    "gated_bias": "GatedBias",
    "chosen_features": "Chosen",
    "whole_inputs": "WholeInputs",
}
"""Wrappers that a module has at most once -> what its class is then called."""


class Draft:
    """Collects what has to be done to a model, which itself stays as it is."""

    def __init__(self, model: nn.Module) -> None:
        """Nothing to do yet."""
        self.model = model
        self._stays: dict[tuple[str, int], Tensor] = {}
        self._copies: dict[str, tuple[str, int, Tensor]] = {}
        self._maps: dict[str, dict[str, Any]] = {
            key: {}
            for key in (
                "bias_only",
                "zeros",
                "tables",
                "shapes",
                "buffers",
                "config",
                "wrappers",
                "lists",
            )
        }
        self._attributes: dict[str, dict[str, Any]] = defaultdict(dict)
        self._lost: list[str] = []
        self._identities: list[str] = []

    def remove(self, parts: Iterable[Part], stay: Iterable[int]) -> None:
        """Take the units' slices out of all tensors, but for those that stay."""
        kept = torch.tensor([*stay], dtype=torch.long, device="cpu")
        for part in parts:
            if not part.whole:
                starts = torch.tensor(part.starts, dtype=torch.long, device="cpu")
                stays = self._staying(part)
                gone = torch.ones(len(stays) * len(starts), dtype=torch.bool, device="cpu")
                gone[kept] = False
                expert, unit = gone.view(len(stays), -1).nonzero(as_tuple=True)
                inside = torch.arange(part.width, device="cpu")
                stays[expert[:, None], starts[unit][:, None] + inside] = False

    def _staying(self, part: Part) -> Tensor:
        """True for each index of a tensor along a dimension that stays, as far as is known.

        [1, I], or [E, I] where the tensor is that of all experts.
        """
        key = part.parameter, part.dim
        if key not in self._stays:
            shape = self.model.get_submodule(part.module).get_parameter(part.name).shape
            size = (shape[0] if part.stacked else 1, shape[part.dim])
            self._stays[key] = torch.ones(size, dtype=torch.bool, device="cpu")
        return self._stays[key]

    def zeros(self, name: str, size: int) -> None:
        """A map gives zeros instead."""
        self._maps["zeros"][name] = size

    def close(self, name: str, *, whole: bool) -> None:
        """An output projection gives its bias, or zeros if the whole module goes."""
        gate = self.model.get_submodule(name)
        size = vars(gate).get("out_features", width(gate, 0))
        if whole:
            self.zeros(name, size)
        else:
            self._maps["bias_only"][name] = [size, tensors(gate).get("bias") is not None]

    def pick(self, name: str, stay: Iterable[int]) -> None:
        """A list of modules keeps some of them."""
        self._maps["lists"][name] = [*stay]

    def identity(self, name: str) -> None:
        """A module hands its input on."""
        self._identities.append(name)

    def shorten(self, name: str, length: int) -> None:
        """A buffer whose entries are all alike gets shorter."""
        self._maps["buffers"][name] = length

    def lose(self, name: str) -> None:
        """A parameter or a table goes, or a layer is emptied."""
        self._lost.append(name)

    def table(self, name: str, source: str, heads: Iterable[int]) -> None:
        """A module gets a table of its own, made of columns of another's."""
        index = torch.tensor([*heads], device="cpu")
        weight = self.model.get_submodule(source).get_parameter("weight")
        self._maps["tables"][name] = [weight.shape[0], len(index)]
        self._copies[f"{name}.weight"] = (f"{source}.weight", 1, index)

    def set(self, name: str, values: Mapping[str, Any]) -> None:
        """A module has new attributes."""
        self._attributes[name] |= values

    def override(self, name: str, values: Mapping[str, int | str]) -> None:
        """A module reads other values in its configuration."""
        self._maps["config"][name] = dict(values)

    def wrap(self, name: str, wrapper: str, *arguments: str | list[Any]) -> None:
        """A module's class is made into another by one of ``pieces.WRAPPERS``."""
        done = type(self.model.get_submodule(name)).__name__
        if wrapper not in ONCE or ONCE[wrapper] not in done:
            self._maps["wrappers"].setdefault(name, []).append([wrapper, list(arguments)])

    def finish(self) -> Plan:
        """What stays becomes indices, and the sizes of the maps that are sliced are noted."""
        index: dict[str, dict[int, Tensor]] = {}
        for (parameter, dim), stays in self._stays.items():
            module = parameter.rpartition(".")[0]
            if module not in self._maps["zeros"] and parameter not in self._copies:
                index.setdefault(parameter, {})[dim] = _places(stays)
        for parameter, dims in index.items():
            self._resize(parameter, dims)
        structure = {
            **self._maps,
            "removed": self._lost,
            "identities": self._identities,
            "attributes": {name: values for name, values in self._attributes.items() if values},
        }
        return Plan(index, self._copies, {key: value for key, value in structure.items() if value})

    def _resize(self, parameter: str, dims: Mapping[int, Tensor]) -> None:
        path, _, leaf = parameter.rpartition(".")
        module = self.model.get_submodule(path)
        shape = list(module.get_parameter(leaf).shape)
        for dim, index in dims.items():
            shape[dim] = index.shape[-1]
        self._maps["shapes"][parameter] = shape
        for cls, sizes in SIZES.items():
            if leaf == "weight" and isinstance(module, cls):
                self.set(path, {name: shape[dim] for name, dim in sizes.items()})


def _places(stays: Tensor) -> Tensor:
    """The indices that stay, [I]; or [E, I], those of each expert."""
    return stays.nonzero()[:, 1].view(len(stays), int(stays[0].sum())).squeeze(0)
