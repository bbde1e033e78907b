"""A draft collects, step by step, what a cut has to do; finished, it is a plan."""

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
    """What a cut does: slices of tensors, and all other changes as plain values."""

    index: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    """Parameter -> dimension -> the indices to keep: [I], or [E, I] with a row for each expert."""
    copies: dict[str, tuple[str, int, Tensor]] = field(default_factory=dict)
    """New parameter -> the parameter it is a slice of, the dimension, the indices."""
    structure: dict[str, Any] = field(default_factory=dict)
    """The argument of ``headcount.pieces.rebuild``: plain values, which code can hold."""


SIZES: dict[type[nn.Module], dict[str, int]] = {
    nn.Linear: {"out_features": 0, "in_features": 1},
    Conv1D: {"nx": 0, "nf": 1},
    nn.Embedding: {"embedding_dim": 1},
}
"""Class of a map -> its attributes that hold a width -> the dimension of its weight."""

ONCE = {
    "own_bias": "OwnBias",
    "own_slopes": "OwnSlopes",
    "own_width": "OwnWidth",
    "gated_bias": "GatedBias",
    "chosen_features": "Chosen",
    "whole_inputs": "WholeInputs",
}
"""Wrapper that a module must not get twice -> how the name of the wrapped class begins.

A second ``own_slopes``, say, would select heads from biases that the first has selected already.
"""


class Draft:
    """Collects what a cut has to do. The model itself is not changed."""

    def __init__(self, model: nn.Module) -> None:
        """An empty draft."""
        self.model = model
        # (parameter, dim) -> which indices stay. A mask instead of a list of indices, since several
        # calls of remove (heads, key-value heads) may take from one tensor.
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
        """Take the units' slices out of all tensors, except for the units in ``stay``."""
        kept = torch.tensor([*stay], dtype=torch.long, device="cpu")
        for part in parts:
            # Tensors under a norm over all heads stay whole; the norm's wrapper selects later.
            if not part.whole:
                starts = torch.tensor(part.starts, dtype=torch.long, device="cpu")
                stays = self._staying(part)
                gone = torch.ones(len(stays) * len(starts), dtype=torch.bool, device="cpu")
                gone[kept] = False
                # One row for each expert, or a single row; units are numbered row after row.
                expert, unit = gone.view(len(stays), -1).nonzero(as_tuple=True)
                inside = torch.arange(part.width, device="cpu")
                stays[expert[:, None], starts[unit][:, None] + inside] = False

    def _staying(self, part: Part) -> Tensor:
        """The mask of a tensor's indices along a dimension, true = stays.

        [1, I]; or [E, I] for a tensor that holds all experts.
        """
        key = part.parameter, part.dim
        if key not in self._stays:
            shape = self.model.get_submodule(part.module).get_parameter(part.name).shape
            size = (shape[0] if part.stacked else 1, shape[part.dim])
            self._stays[key] = torch.ones(size, dtype=torch.bool, device="cpu")
        return self._stays[key]

    def zeros(self, name: str, size: int) -> None:
        """Replace a map by one of ``size`` outputs that are all zero."""
        self._maps["zeros"][name] = size

    def close(self, name: str, *, whole: bool) -> None:
        """Replace an output projection by its bias, or by zeros if the whole sublayer goes."""
        gate = self.model.get_submodule(name)
        # An earlier cut may have left a BiasOnly, whose width only the attribute knows.
        size = vars(gate).get("out_features", width(gate, 0))
        if whole:
            self.zeros(name, size)
        else:
            self._maps["bias_only"][name] = [size, tensors(gate).get("bias") is not None]

    def pick(self, name: str, stay: Iterable[int]) -> None:
        """Keep the modules of a list with these indices."""
        self._maps["lists"][name] = [*stay]

    def identity(self, name: str) -> None:
        """Replace a module by one that returns its input."""
        self._identities.append(name)

    def shorten(self, name: str, length: int) -> None:
        """Shorten a buffer whose entries are all the same number."""
        self._maps["buffers"][name] = length

    def lose(self, name: str) -> None:
        """Delete a parameter or a table, or empty a layer or an attention module."""
        self._lost.append(name)

    def table(self, name: str, source: str, heads: Iterable[int]) -> None:
        """Give a module its own table: the columns of ``source`` that belong to its heads."""
        index = torch.tensor([*heads], device="cpu")
        weight = self.model.get_submodule(source).get_parameter("weight")
        self._maps["tables"][name] = [weight.shape[0], len(index)]
        self._copies[f"{name}.weight"] = (f"{source}.weight", 1, index)

    def set(self, name: str, values: Mapping[str, Any]) -> None:
        """Set attributes of a module."""
        self._attributes[name] |= values

    def override(self, name: str, values: Mapping[str, int | str]) -> None:
        """Let a module, and no other, read these values from its configuration."""
        self._maps["config"][name] = dict(values)

    def wrap(self, name: str, wrapper: str, *arguments: str | list[Any]) -> None:
        """Change a module's class by one of ``pieces.WRAPPERS``."""
        done = type(self.model.get_submodule(name)).__name__
        if wrapper not in ONCE or ONCE[wrapper] not in done:
            self._maps["wrappers"].setdefault(name, []).append([wrapper, list(arguments)])

    def finish(self) -> Plan:
        """The plan: masks become indices, and sliced maps get their new sizes."""
        index: dict[str, dict[int, Tensor]] = {}
        for (parameter, dim), stays in self._stays.items():
            module = parameter.rpartition(".")[0]
            # A map of zeros has no weight to slice. A copied table is sliced when it is copied.
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
    """A mask [1, I] or [E, I] as indices of the entries that are true: [K], or [E, K]."""
    # The view works since every expert keeps equally many, which the planner has checked.
    return stays.nonzero()[:, 1].view(len(stays), int(stays[0].sum())).squeeze(0)
