"""Cut the removed units out of a model's weights: the result is a smaller model."""

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
from headcount.architectures.discover import Discovery, discover, examined, table_of
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

    The slices of the removed units are gone from all weights, and with them their parameters and
    MACs. A sublayer without heads or neurons adds only its output projection's bias to the
    residual stream. A removed sublayer adds nothing. A removed layer returns its input. The
    configuration records how many units each layer has, so that the model saves and reloads.

    Args:
        model: the dense model, or one that was cut before.
        decision: which units stay.
        in_place: cut this model instead of a copy. This needs no second model in memory.

    Returns:
        The smaller model; ``model`` itself if ``in_place``. It keeps the decision, and
        ``save_pretrained`` writes it beside the weights. The copy of a compiled model is not
        compiled.

    Raises:
        ArgumentError: ``decision`` is of another type, such as a budget.
        DecisionError: the decision is about another model, or has a score that is not finite.
        SurgeryError: gates are still attached; the weights are quantised or on several devices;
            layers that share weights would keep different units; or the result does not have
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
    found = examined(dense)
    units = table_of(dense, found)
    decision.check(units)
    _check_nesting(decision)
    refuse_torn(dense, units, decision)
    check_unclaimed(dense, f"cut({type(dense).__name__})")
    kept = {site.key: torch.tensor(site.kept, dtype=torch.long) for site in decision.sites}
    # Before the cut: Whisper's alignment heads are numbered as in the dense model.
    generation = realigned(dense, units.sites, kept, renumber=True)
    small = reduce(dense, found, kept, in_place=in_place)
    for name, config in generation.items():
        setattr(small.get_submodule(name), "generation_config", config)
    cut_found = _recount(small, decision)
    # A copy has its own configurations already. Without this, an in-place cut would also write its
    # counts into every other model that shares the configuration object.
    if in_place:
        own_configs(small)
    leave_standalone(small)
    # The names of an earlier cut no longer hold; write_shape notes new ones if layers move.
    vars(small).pop(MOVED, None)
    vars(small)["headcount_decision"] = decision
    forget_packing(small)
    write_shape(small, cut_found, kept)
    if in_place:
        forget_compiled()
    return model if in_place else small


def reduce(model: M, found: Discovery, kept: Kept, *, in_place: bool) -> M:
    """Keep the listed units of each named site; sites that are not named stay whole.

    The configuration is not changed.

    Args:
        model: the model.
        found: what was discovered in it.
        kept: indices of the units to keep, by site (module, kind).
        in_place: change this model instead of a copy.

    Returns:
        The smaller model.

    Raises:
        SurgeryError: one tensor has two names, and each name would need a different slice.
    """
    planned = plan(model, found, kept)
    # All slices and copies are made before anything is replaced: in place, a source may be gone
    # afterwards, and an error here leaves the model as it was.
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
        # deepcopy looks objects up in its memo first. An entry "dense weight -> its slice" makes it
        # copy everything but the sliced weights, so that the dense weights are never copied.
        memo: dict[int, object] = {
            id(_parameter(model, name)): tensor for name, tensor in tensors.items()
        }
        # deepcopy refuses tensors that autograd computed.
        memo |= {id(tensor): tensor.detach().clone() for tensor in _computed(model)}
        small = copy.deepcopy(model, memo)
    # First the modules, then their weights: rebuild makes the tables that the copies fill.
    rebuild(small, planned.structure)
    for name, tensor in copies.items():
        path, _, leaf = name.rpartition(".")
        small.get_submodule(path).register_parameter(leaf, tensor)
    return small


def _computed(model: nn.Module) -> Iterator[Tensor]:
    """Computed tensors that hooks store on modules, such as a pruned weight.

    The hook computes them again in the next forward pass.
    """
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                yield value


def _parameter(model: nn.Module, name: str) -> nn.Parameter:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path).get_parameter(leaf)


def _slices(model: nn.Module, planned: Plan) -> dict[str, nn.Parameter]:
    """Parameter name -> its slice. Names of one tensor get one slice, so that they stay tied."""
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
            # [E, I]: each expert keeps its own neurons. Inside an expert, dim is one less.
            pairs = zip(tensor, own, strict=True)
            tensor = torch.stack([expert.index_select(dim - 1, i) for expert, i in pairs])
    return nn.Parameter(tensor, requires_grad=parameter.requires_grad)


def _check_nesting(decision: Decision) -> None:
    """Refuse a decision that keeps units inside a removed one, such as heads of a removed layer."""
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
    """Whether ``inner`` keeps a unit that lies in a removed unit of ``outer``."""
    if KIND[outer.kind].holds == "a share of the heads":
        # Heads go with their own key-value head. A sublayer or layer has one unit, which holds all.
        share = len(inner.keep) // len(outer.keep) if inner.kind == "head" else 0
        same = inner.module == outer.module and share > 0
        return same and any(not outer.keep[head // share] for head in inner.kept)
    gone = not any(outer.keep)
    return gone and any(inner.keep) and holds(outer.module, outer.kind, inner.module)


def _recount(model: nn.Module, decision: Decision) -> Discovery:
    """Compare the units that the new weights have with the decision.

    Returns:
        What was discovered in the cut model.

    Raises:
        SurgeryError: a site has another number of units than decided.
    """
    # A walk of its own: what the plan knew would only confirm the plan.
    after = discover(model)
    found = {site.key: site.num_units for site in after.sites}
    # Two cases may differ. Attention without heads has no weights by which its key-value heads or
    # the sublayer could be counted. A layer may be left with no weights at all (see _bare).
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
    return after


def _bare(layer: SiteDecision, decision: Decision, hollow: set[str]) -> bool:
    """Whether nothing inside a kept layer is kept.

    If such a layer has no norms, it has no weights, and counts as removed.
    """
    inside = [
        site
        for site in decision.sites
        if site.key != layer.key and holds(layer.module, "layer", site.module)
    ]
    return bool(inside) and not any(any(s.keep) and s.module not in hollow for s in inside)
