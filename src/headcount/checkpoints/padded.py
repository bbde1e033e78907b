"""Pad a cut model to its dense, stock shape with zeros."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headcount.architectures.alignment import restored
from headcount.architectures.discover import Discovery, discover
from headcount.architectures.maps import is_skipped
from headcount.architectures.stock import stock_class
from headcount.checkpoints.dense import dense_config, dense_twin, kept_again
from headcount.errors import CheckpointError
from headcount.surgery.draft import Plan
from headcount.surgery.plan import Kept, plan
from headcount.units.decision import Decision


def padded(model: PreTrainedModel) -> PreTrainedModel:
    """A stock model of the dense shape that computes what a cut model computes.

    It is for inference engines that accept only the stock shape. It is neither smaller nor faster
    than the dense model.

    Args:
        model: a cut model; not changed.

    Returns:
        A model of the stock class and the dense shape, on the CPU.

    Raises:
        CheckpointError: whole layers were removed, which zeros cannot replace; or layers have their
            own position biases, and it is not known which heads these belong to.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> small = hc.cut(model, hc.decide(model, hc.Random(seed=0), hc.Budget(heads=6)))
        >>> hc.units(padded(small)).num("head")
        24
    """
    call = f"save({type(model).__name__}, padded=True)"
    if any(map(is_skipped, model.modules())):
        raise CheckpointError(
            f"{call}: whole layers were removed; a layer of zeros does not return its input. "
            "Save with standalone=True instead."
        )
    # The twin gives the plan, without memory; the dense model is filled by it.
    twin = dense_twin(model)
    found = discover(twin)
    kept, planned = _plan_in_place(model, twin, found, call)
    dense = stock_class(type(model))(dense_config(model.config)).eval()
    cast(nn.Module, dense).to(dtype=model.dtype)
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    gone = (*planned.structure.get("zeros", {}), *planned.structure.get("bias_only", {}))
    with torch.no_grad():
        for name, target in dense.named_parameters():
            _fill(name, target, state, planned, gone)
        for name, target in dense.named_buffers():
            if name in state and state[name].shape == target.shape:
                target.copy_(state[name])
    # Generation configurations of the cut model name heads by its numbers, not by the dense ones.
    dense.tie_weights()
    if model.can_generate():
        config = restored(model.generation_config, found.sites, kept)
        setattr(dense, "generation_config", config)
    return dense


def _fill(
    name: str,
    target: nn.Parameter,
    state: Mapping[str, Tensor],
    planned: Plan,
    gone: tuple[str, ...],
) -> None:
    """Fill one dense parameter: the cut model's numbers at their places, zero elsewhere.

    A parameter that the cut model lacks belongs to something removed, so it is zero. A projection
    of which only the bias is left still has the bias.
    """
    source = state.get(_name_after(name, planned.structure.get("lists", {})))
    if name in planned.index and source is not None:
        target.zero_()
        _put(target, source.to(target.dtype), planned.index[name])
    elif source is not None and source.shape == target.shape:
        target.copy_(source)
    elif name.rpartition(".")[0] in gone or source is None:
        target.zero_()
    # T5: each layer's columns go back into the one table that all layers share.
    for copied, (origin, dim, index) in planned.copies.items():
        if origin == name and copied in state:
            target.index_copy_(dim, index, state[copied].to(target.dtype))


def _name_after(name: str, lists: Mapping[str, list[int]]) -> str:
    """The name of a dense parameter in the cut model; empty if its entry of a list is gone."""
    for path, stay in lists.items():
        number, _, leaf = name.removeprefix(f"{path}.").partition(".")
        if name.startswith(f"{path}.") and number.isdecimal():
            place = stay.index(int(number)) if int(number) in stay else None
            return "" if place is None else f"{path}.{place}.{leaf}"
    return name


def _put(target: Tensor, source: Tensor, dims: Mapping[int, Tensor]) -> None:
    """Write ``source`` to the given indices of ``target``, for each expert to its own indices."""
    if any(index.ndim == 2 for index in dims.values()):
        for e in range(len(target)):
            _put(target[e], source[e], {dim - 1: index[e] for dim, index in dims.items()})
        return
    places = [torch.arange(size) for size in target.shape]
    for dim, index in dims.items():
        places[dim] = index
    target[torch.meshgrid(*places, indexing="ij")] = source


def _plan_in_place(
    model: PreTrainedModel, twin: PreTrainedModel, found: Discovery, call: str
) -> tuple[Kept, Plan]:
    """(units that stay, plan of the cut), with the units' true places if the decision is known.

    Without the decision, the mark says only how many units are left, and any places will do: the
    units of a module can change places, except where they have their own position biases.
    """
    # After a second cut, the decision is about the model in between, and the two plans differ.
    decision: Decision | None = vars(model).get("headcount_decision")
    again = kept_again(model, twin, found)
    planned = plan(twin, found, again)
    if decision is not None and _is_about(found, decision):
        kept = {site.key: torch.tensor(site.kept, dtype=torch.long) for site in decision.sites}
        original = plan(twin, found, kept)
        if _same_shape(original, planned):
            return kept, original
    if planned.copies:
        raise CheckpointError(
            f"{call}: each layer has its own position-bias table, and it is not known to which "
            "dense heads the columns belong. Pad the model right after it was cut from the dense "
            "one."
        )
    return again, planned


def _is_about(found: Discovery, decision: Decision) -> bool:
    sizes = {site.key: site.num_units for site in found.sites}
    return all(sizes.get(site.key) == len(site.keep) for site in decision.sites)


def _same_shape(one: Plan, other: Plan) -> bool:
    return one.structure.get("shapes") == other.structure.get("shapes")
