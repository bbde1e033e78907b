"""Cut the removed units out of a model, physically."""

import copy
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from headcount.architectures.config import write_shape
from headcount.architectures.discover import find_sites, layout_of
from headcount.architectures.discover import units as find_units
from headcount.architectures.layout import AttentionLayout
from headcount.errors import SurgeryError
from headcount.gates.attach import has_gates
from headcount.surgery.empty import BiasOnly, empty_class
from headcount.units.decision import Decision
from headcount.units.site import Site

M = TypeVar("M", bound=nn.Module)


def cut(model: M, decision: Decision, *, in_place: bool = False) -> M:
    """A smaller model that computes what the masked model computes.

    The removed units' slices of all projections are gone, and with them their cost. A layer
    without any head keeps its residual and the output projection's bias. The configuration says
    how many units each layer has, so that the model saves and reloads.

    Args:
        model: the dense model (or one that was cut before).
        decision: what stays.
        in_place: cut this very model instead of a copy; needs no second model in memory.

    Returns:
        The smaller model; ``model`` itself if ``in_place``. It remembers the decision, which
        ``save_pretrained`` writes beside the weights.

    Raises:
        DecisionError: the decision is about another model.
        SurgeryError: gates are still attached, or the result does not have exactly the kept units.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> small = hc.cut(model, hc.decide(model, hc.Random(seed=0), hc.Budget(heads=6)))
        >>> hc.units(small).num("head"), hc.units(model).num("head")
        (6, 24)
    """
    if has_gates(model):
        raise SurgeryError(
            f"cut({type(model).__name__}): gates are attached to the model. Close the session or "
            "leave the masked block first."
        )
    units = find_units(model)
    keep = decision.keep(units)
    kept = {
        site.module: keep[span].nonzero().flatten()
        for site, span in zip(units.sites, units.slices, strict=True)
    }
    small = reduce(model, kept, in_place=in_place)
    _recount(small, {name: len(index) for name, index in kept.items()})
    vars(small)["headcount_decision"] = decision
    return small


def reduce(model: M, kept: dict[str, Tensor], *, in_place: bool) -> M:
    """Keep the listed units of each named site; sites that are not named stay whole.

    Args:
        model: the model.
        kept: indices of the units to keep, by the site's module name.
        in_place: change this model instead of a copy.

    Returns:
        The smaller model.
    """
    sites = [site for site in find_sites(model) if site.module in kept and site.num_units]
    if in_place:
        small = model
        for site in sites:
            for linear, name, tensor in _slices(small, site, kept[site.module]):
                linear.register_parameter(name, tensor)
    else:
        memo: dict[int, object] = {}
        for site in sites:
            for linear, name, tensor in _slices(model, site, kept[site.module]):
                memo[id(linear.get_parameter(name))] = tensor
        small = copy.deepcopy(model, memo)
    for site in sites:
        _settle(small, site, len(kept[site.module]))
    write_shape(small)
    return small


def _slices(
    model: nn.Module, site: Site, kept: Tensor
) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """The smaller parameters of a site, with the module and the name they belong to."""
    for part in site.parts:
        linear = model.get_submodule(part.module)
        weight = linear.get_parameter("weight")
        offsets = torch.arange(part.width)
        index = (part.start + kept[:, None] * part.width + offsets).flatten().to(weight.device)
        yield linear, "weight", _sliced(weight, part.axis, index)
        if part.axis == 0 and "bias" in dict(linear.named_parameters(recurse=False)):
            bias = linear.get_parameter("bias")
            yield linear, "bias", _sliced(bias, 0, index)


def _sliced(parameter: nn.Parameter, axis: int, index: Tensor) -> nn.Parameter:
    tensor = parameter.detach().index_select(axis, index)
    return nn.Parameter(tensor, requires_grad=parameter.requires_grad)


def _settle(model: nn.Module, site: Site, num_kept: int) -> None:
    """Make the modules around a site's new weights agree with them."""
    attention = model.get_submodule(site.module)
    row = layout_of(attention)
    assert row is not None, site.module
    if row.num_heads is not None:
        setattr(attention, row.num_heads, num_kept)
    if row.all_head_size is not None:
        setattr(attention, row.all_head_size, num_kept * site.width)
    if num_kept == 0:
        _empty(model, site, row)
        return
    for part in site.parts:
        size = num_kept * part.width
        setattr(model.get_submodule(part.module), ("out_features", "in_features")[part.axis], size)


def _empty(model: nn.Module, site: Site, row: AttentionLayout) -> None:
    attention = model.get_submodule(site.module)
    for name in (row.query, row.key, row.value):
        delattr(attention, name)
    parent, _, leaf = site.gate.rpartition(".")
    linear = model.get_submodule(site.gate)
    assert isinstance(linear, nn.Linear)
    setattr(model.get_submodule(parent), leaf, BiasOnly(linear))
    inside = None if row.output.startswith("..") else row.output
    caches = site.where == "self" and site.stack == "decoder"
    attention.__class__ = empty_class(type(attention), inside, caches=caches)


def _recount(model: nn.Module, expected: dict[str, int]) -> None:
    found = {site.module: site.num_units for site in find_sites(model)}
    wrong = {name: (found[name], count) for name, count in expected.items() if found[name] != count}
    if wrong:
        raise SurgeryError(
            f"cut: recounted from the weights, these sites have (found, decided) units: {wrong}. "
            "This is an error of headcount; please report it."
        )
