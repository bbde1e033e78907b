"""Cut the removed units out of a model, physically."""

import copy
from collections.abc import Iterator
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from headcount.architectures.alignment import realigned
from headcount.architectures.config import (
    check_unclaimed,
    leave_standalone,
    own_configs,
    write_shape,
)
from headcount.architectures.depth import MOVED
from headcount.architectures.discover import find_sites
from headcount.architectures.discover import units as find_units
from headcount.architectures.maps import uncompiled
from headcount.architectures.state import forget_packing
from headcount.door.arguments import checks_arguments
from headcount.errors import SurgeryError
from headcount.gates.attach import has_gates
from headcount.gates.hooks import forget_compiled
from headcount.pieces import rebuild
from headcount.surgery.draft import Plan
from headcount.surgery.plan import Kept, plan
from headcount.surgery.refuse import refuse, refuse_torn, refuse_untied
from headcount.units.decision import Decision, SiteDecision, refuse_not_finite
from headcount.units.kinds import KIND, KINDS, SLICES
from headcount.units.nesting import holds

M = TypeVar("M", bound=nn.Module)


@checks_arguments
def cut(model: M, decision: Decision, *, in_place: bool = False) -> M:
    """A smaller model that computes what the masked model computes.

    The removed units' slices of all weights are gone, and with them their cost. A sublayer
    without heads or neurons keeps its residual and the output projection's bias; a removed sublayer
    keeps its residual alone; a removed layer hands its input on. The configuration says how many
    units each layer has, so that the model saves and reloads.

    Args:
        model: the dense model (or one that was cut before).
        decision: what stays.
        in_place: cut this very model instead of a copy; needs no second model in memory.

    Returns:
        The smaller model; ``model`` itself if ``in_place``. It remembers the decision, which
        ``save_pretrained`` writes beside the weights. A copy of a compiled model is not compiled.

    Raises:
        ArgumentError: the decision is something else, such as a budget.
        DecisionError: the decision is about another model, or has a score that is not finite.
        SurgeryError: gates are still attached, the weights are quantised or on several devices,
            layers that share weights would keep different units, or the result does not have
            exactly the kept units.

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
    scores = (torch.tensor(site.scores, dtype=torch.float64) for site in decision.sites)
    refuse_not_finite("cut", (site.key for site in decision.sites), scores)
    dense = cast(M, uncompiled(model))
    refuse(dense)
    units = find_units(dense)
    decision.check(units)
    _check_nesting(decision)
    refuse_torn(dense, units, decision)
    check_unclaimed(dense, f"cut({type(dense).__name__})")
    kept = {site.key: torch.tensor(site.kept, dtype=torch.long) for site in decision.sites}
    generation = realigned(dense, units.sites, kept, renumber=True)
    small = reduce(dense, kept, in_place=in_place)
    for name, config in generation.items():
        setattr(small.get_submodule(name), "generation_config", config)
    _recount(small, decision)
    if in_place:
        own_configs(small)
    leave_standalone(small)
    vars(small).pop(MOVED, None)
    vars(small)["headcount_decision"] = decision
    forget_packing(small)
    write_shape(small, kept)
    if in_place:
        forget_compiled()
    return model if in_place else small


def reduce(model: M, kept: Kept, *, in_place: bool) -> M:
    """Keep the listed units of each named site; sites that are not named stay whole.

    The configuration stays as it is.

    Args:
        model: the model.
        kept: indices of the units to keep, by site (module, kind).
        in_place: change this model instead of a copy.

    Returns:
        The smaller model.

    Raises:
        SurgeryError: a tensor would have another slice under another name.
    """
    planned = plan(model, kept)
    tensors = _slices(model, planned)
    copies = {
        name: _sliced(_parameter(model, source), {dim: index})
        for name, (source, dim, index) in planned.copies.items()
    }
    if in_place:
        small = model
        for name, tensor in tensors.items():
            path, _, leaf = name.rpartition(".")
            small.get_submodule(path).register_parameter(leaf, tensor)
    else:
        memo: dict[int, object] = {
            id(_parameter(model, name)): tensor for name, tensor in tensors.items()
        }
        memo |= {id(tensor): tensor.detach().clone() for tensor in _computed(model)}
        small = copy.deepcopy(model, memo)
    rebuild(small, planned.structure)
    for name, tensor in copies.items():
        path, _, leaf = name.rpartition(".")
        small.get_submodule(path).register_parameter(leaf, tensor)
    return small


def _computed(model: nn.Module) -> Iterator[Tensor]:
    """Tensors that hooks leave on modules, such as a pruned weight; they are computed anew."""
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                yield value


def _parameter(model: nn.Module, name: str) -> nn.Parameter:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path).get_parameter(leaf)


def _slices(model: nn.Module, planned: Plan) -> dict[str, nn.Parameter]:
    """The slice of each tensor, one for all its names."""
    refuse_untied(model, planned)
    whole = {name: _parameter(model, name) for name in planned.index}
    made = {id(tensor): _sliced(tensor, planned.index[name]) for name, tensor in whole.items()}
    return {name: made[id(tensor)] for name, tensor in whole.items()}


def _sliced(parameter: nn.Parameter, dims: dict[int, Tensor]) -> nn.Parameter:
    tensor = parameter.detach()
    for dim, index in dims.items():
        own = index.to(tensor.device)
        if own.ndim == 1:
            tensor = tensor.index_select(dim, own)
        else:
            pairs = zip(tensor, own, strict=True)
            tensor = torch.stack([expert.index_select(dim - 1, i) for expert, i in pairs])
    return nn.Parameter(tensor, requires_grad=parameter.requires_grad)


def _check_nesting(decision: Decision) -> None:
    """Refuse a decision that keeps units inside of what it removes."""
    removed = [site for site in decision.sites if KIND[site.kind].holds != "nothing"]
    for outer in removed:
        for inner in decision.sites:
            if KINDS.index(outer.kind) < KINDS.index(inner.kind) and _orphans(outer, inner):
                raise SurgeryError(
                    f"cut: the decision removes units of kind {outer.kind!r} in {outer.module!r} "
                    f"but keeps units of kind {inner.kind!r} inside them, in {inner.module!r}. "
                    "Let it remove them too."
                )


def _orphans(outer: SiteDecision, inner: SiteDecision) -> bool:
    if KIND[outer.kind].holds == "a share of the heads":
        share = len(inner.keep) // len(outer.keep) if inner.kind == "head" else 0
        same = inner.module == outer.module and share > 0
        return same and any(not outer.keep[head // share] for head in inner.kept)
    gone = not any(outer.keep)
    return gone and any(inner.keep) and holds(outer.module, outer.kind, inner.module)


def _recount(model: nn.Module, decision: Decision) -> None:
    found = {site.key: site.num_units for site in find_sites(model)}
    hollow = {site.module for site in decision.sites if site.kind in SLICES and not any(site.keep)}
    wrong = {
        site.key: (found.get(site.key, 0), sum(site.keep))
        for site in decision.sites
        if found.get(site.key, 0) != sum(site.keep)
        and not (site.module in hollow and site.kind != "head")
        and not (site.kind == "layer" and _bare(site, decision, hollow))
    }
    if wrong:
        raise SurgeryError(
            f"cut: recounted from the weights, these sites have (found, decided) units: {wrong}. "
            "This is an error of headcount; please report it."
        )


def _bare(layer: SiteDecision, decision: Decision, hollow: set[str]) -> bool:
    """Whether a layer stays of which nothing inside does: without norms it has no weights left."""
    inside = [
        site
        for site in decision.sites
        if site.key != layer.key and holds(layer.module, "layer", site.module)
    ]
    return bool(inside) and not any(any(s.keep) and s.module not in hollow for s in inside)
