"""Cut the removed units out of a model, physically."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from headcount.architectures.alignment import realigned
from headcount.architectures.config import write_shape
from headcount.architectures.discover import find_sites
from headcount.architectures.discover import units as find_units
from headcount.errors import SurgeryError, check_argument
from headcount.gates.attach import has_gates
from headcount.pieces import rebuild
from headcount.surgery.draft import Plan
from headcount.surgery.leftovers import drop_leftovers
from headcount.surgery.plan import Kept, plan
from headcount.surgery.refuse import refuse, refuse_torn
from headcount.units.decision import Decision, SiteDecision
from headcount.units.nesting import holds
from headcount.units.site import KINDS

M = TypeVar("M", bound=nn.Module)


def cut(model: M, decision: Decision, *, in_place: bool = False) -> M:
    """A smaller model that computes what the masked model computes.

    The removed units' slices of all weights are gone, and with them their cost. A sublayer
    without heads or rows keeps its residual and the output projection's bias; a removed module
    keeps its residual alone; a removed layer hands its input on. The configuration says how many
    units each layer has, so that the model saves and reloads.

    Args:
        model: the dense model (or one that was cut before).
        decision: what stays.
        in_place: cut this very model instead of a copy; needs no second model in memory.

    Returns:
        The smaller model; ``model`` itself if ``in_place``. It remembers the decision, which
        ``save_pretrained`` writes beside the weights.

    Raises:
        ArgumentError: the decision is something else, such as a budget.
        DecisionError: the decision is about another model.
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
    check_argument("cut", "decision", decision, Decision, "what hc.decide or a trainer decided")
    if has_gates(model):
        raise SurgeryError(
            f"cut({type(model).__name__}): gates are attached to the model. Close the session or "
            "leave the masked block first."
        )
    units = find_units(model)
    decision.check(units)
    _check_nesting(decision)
    refuse(model, units)
    refuse_torn(model, units, decision)
    kept = {site.key: torch.tensor(site.kept, dtype=torch.long) for site in decision.sites}
    generation = realigned(model, units.sites, kept, renumber=True)
    small = reduce(model, kept, in_place=in_place)
    for name, config in generation.items():
        setattr(small.get_submodule(name), "generation_config", config)
    drop_leftovers(small)
    _recount(small, decision)
    vars(small)["headcount_decision"] = decision
    return small


def reduce(model: M, kept: Kept, *, in_place: bool) -> M:
    """Keep the listed units of each named site; sites that are not named stay whole.

    Args:
        model: the model.
        kept: indices of the units to keep, by site (module, kind).
        in_place: change this model instead of a copy.

    Returns:
        The smaller model.
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
        small = copy.deepcopy(model, memo)
    rebuild(small, planned.structure)
    for name, tensor in copies.items():
        path, _, leaf = name.rpartition(".")
        small.get_submodule(path).register_parameter(leaf, tensor)
    write_shape(small, kept)
    return small


def _parameter(model: nn.Module, name: str) -> nn.Parameter:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path).get_parameter(leaf)


def _slices(model: nn.Module, planned: Plan) -> dict[str, nn.Parameter]:
    return {name: _sliced(_parameter(model, name), dims) for name, dims in planned.index.items()}


def _sliced(parameter: nn.Parameter, dims: dict[int, Tensor]) -> nn.Parameter:
    tensor = parameter.detach()
    for dim, index in dims.items():
        tensor = tensor.index_select(dim, index.to(tensor.device))
    return nn.Parameter(tensor, requires_grad=parameter.requires_grad)


def _check_nesting(decision: Decision) -> None:
    """Refuse a decision that keeps units inside of what it removes."""
    removed = [site for site in decision.sites if site.kind in ("layer", "module", "group")]
    for outer in removed:
        for inner in decision.sites:
            if KINDS.index(outer.kind) < KINDS.index(inner.kind) and _orphans(outer, inner):
                raise SurgeryError(
                    f"cut: the decision removes units of kind {outer.kind!r} in {outer.module!r} "
                    f"but keeps units of kind {inner.kind!r} inside them, in {inner.module!r}. "
                    "Let it remove them too."
                )


def _orphans(outer: SiteDecision, inner: SiteDecision) -> bool:
    if outer.kind == "group":
        share = len(inner.keep) // len(outer.keep) if inner.kind == "head" else 0
        same = inner.module == outer.module and share > 0
        return same and any(not outer.keep[head // share] for head in inner.kept)
    gone = not any(outer.keep)
    return gone and any(inner.keep) and holds(outer.module, outer.kind, inner.module)


def _recount(model: nn.Module, decision: Decision) -> None:
    found = {site.key: site.num_units for site in find_sites(model)}
    hollow = {
        site.module
        for site in decision.sites
        if site.kind in ("head", "group", "row") and not any(site.keep)
    }
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
