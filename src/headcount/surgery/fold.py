"""Fold the scales of units into the weights of their output projections."""

import copy
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headcount.architectures.depth import name_now
from headcount.architectures.discover import units as find_units
from headcount.door.arguments import checks_arguments
from headcount.errors import DecisionError, SurgeryError
from headcount.units.decision import Decision, SiteDecision
from headcount.units.kinds import SCALED
from headcount.units.site import Site

M = TypeVar("M", bound=nn.Module)


@checks_arguments
def fold(model: M, decision: Decision, scales: Float[Tensor, " n"], *, in_place: bool = False) -> M:
    """Multiply each unit's slice of the output projection by its scale; biases stay.

    Afterwards the model computes what it would with its units multiplied by the scales. The scales
    need not be stored.

    Args:
        model: the dense model the decision is about, or that model after ``cut``.
        decision: which units stay.
        scales: one for each unit that the decision is about, as ``rescale`` returns them. A
            sublayer or layer has scale one, or zero if it is removed.
        in_place: change this model instead of a copy.

    Returns:
        The model with scaled weights. In a dense model, the slices of units with scale zero are
        zero.

    Raises:
        DecisionError: the decision is about another model, or there is not one scale for each unit.
        SurgeryError: a sublayer or layer has a scale other than zero or one.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=3))
        >>> scales = 2.0 * decision.keep(hc.units(model, "head"))
        >>> small = hc.cut(model, decision)
        >>> path = "encoder.layer.0.attention.output.dense"
        >>> before = small.get_submodule(path).weight
        >>> torch.equal(hc.fold(small, decision, scales).get_submodule(path).weight, 2 * before)
        True
    """
    if len(scales) != decision.num_units:
        raise DecisionError(
            f"fold(scales of length {len(scales)}): the decision is about {decision.num_units} "
            "units. Give one scale for each, as rescale does."
        )
    factors = _factors(model, decision, scales.detach().cpu().double())
    changed = model if in_place else copy.deepcopy(model)
    for site, own in factors:
        weight = output_weight(changed, site)
        # One factor for each input of the projection. The product is taken in float64 and rounded
        # once, also for a model in half precision.
        factors_of_all = own.repeat_interleave(site.width).view(*weight.shape[:-1], 1)
        weight.copy_(weight.cpu().double() * factors_of_all)
    return changed


def _factors(model: nn.Module, decision: Decision, scales: Tensor) -> list[tuple[Site, Tensor]]:
    """The model's sites of heads, key-value heads and neurons, each with its units' scales."""
    found = {site.key: site for site in find_units(model).sites}
    # Where the cut took layers out of their list, a site has another name than in the decision.
    is_cut = vars(model).get("headcount_decision") == decision
    hollow = {site.module for site in decision.sites if site.kind in SCALED and not site.kept}
    split = scales.split([len(site.keep) for site in decision.sites])
    factors = []
    for decided, own in zip(decision.sites, split, strict=True):
        if decided.kind not in SCALED:
            _check_whole(decided, own)
            continue
        name = name_now(model, decided.module) if is_cut else decided.module
        here = found.get((name, decided.kind))
        # The cut has left nothing here, so there is nothing to scale.
        if here is None and decided.module in hollow:
            continue
        has, kept = here.num_units if here is not None else 0, len(decided.kept)
        if here is None or has not in (len(own), kept):
            raise DecisionError(
                f"fold: the decision is about another model: it has {len(own)} units of kind "
                f"{decided.kind!r} in {decided.module!r} and keeps {kept}, the model has {has}. "
                "Give the model that was decided upon, or its cut."
            )
        # A dense model has all units and takes all scales; a cut one those of the kept units.
        factors.append((here, own if has == len(own) else own[torch.tensor(decided.keep)]))
    return factors


def _check_whole(decided: SiteDecision, scales: Tensor) -> None:
    if any(scale not in (0.0, 1.0) for scale in scales.tolist()):
        raise SurgeryError(
            f"fold: the scale of the {decided.kind} {decided.module!r} is {scales.tolist()}. "
            "Sublayers and layers are kept or removed: give one or zero."
        )


def output_weight(model: nn.Module, site: Site) -> Float[Tensor, "i o"]:
    """The weight of the projection behind a site's units, with its inputs as rows.

    Args:
        model: the model the site is in.
        site: heads, key-value heads or neurons.

    Returns:
        A view of the weight, detached: [inputs, outputs], or [experts, inputs, outputs]. Row i is
        what input i adds to the output.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> output_weight(model, hc.units(model, "neuron").sites[0]).shape
        torch.Size([3072, 768])
    """
    part = next(part for part in site.parts if part.role in ("output", "down"))
    weight = model.get_submodule(part.module).get_parameter(part.name)
    return weight.detach().movedim(part.dim, 1 if part.stacked else 0)
