"""A cut model in its dense, stock shape: the weights that are gone are zero."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headcount.architectures.alignment import restored
from headcount.architectures.discover import find_sites
from headcount.architectures.maps import is_skipped
from headcount.architectures.stock import stock_class
from headcount.checkpoints.dense import dense_config, dense_twin, kept_again
from headcount.errors import CheckpointError
from headcount.surgery.draft import Plan
from headcount.surgery.plan import Kept, plan
from headcount.units.decision import Decision


def padded(model: PreTrainedModel) -> PreTrainedModel:
    """The stock model that computes what a cut model computes, for engines that demand its shape.

    Nothing is gained in size or speed.

    Args:
        model: a cut model; not changed.

    Returns:
        A model of the stock class and the dense shape, on the CPU.

    Raises:
        CheckpointError: whole layers were removed, which zeros cannot stand for, or layers have
            position biases of their own and nothing says which heads they were made from.

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
            f"{call}: whole layers were removed; zeros in a layer do not make it hand its input "
            "on. Save with standalone=True instead."
        )
    twin = dense_twin(model)
    kept, planned = _plan_in_place(model, twin, call)
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
    dense.tie_weights()
    if model.can_generate():
        config = restored(model.generation_config, find_sites(twin), kept)
        setattr(dense, "generation_config", config)
    return dense


def _fill(
    name: str,
    target: nn.Parameter,
    state: Mapping[str, Tensor],
    planned: Plan,
    gone: tuple[str, ...],
) -> None:
    """One dense parameter: the cut one's numbers at their places, zero elsewhere."""
    source = state.get(_name_after(name, planned.structure.get("lists", {})))
    if name in planned.index and source is not None:
        target.zero_()
        _put(target, source.to(target.dtype), planned.index[name])
    elif source is not None and source.shape == target.shape:
        target.copy_(source)
    elif name.rpartition(".")[0] in gone or source is None:
        target.zero_()
    for copied, (origin, dim, index) in planned.copies.items():
        if origin == name and copied in state:
            target.index_copy_(dim, index, state[copied].to(target.dtype))


def _name_after(name: str, lists: Mapping[str, list[int]]) -> str:
    """What a parameter is called in the cut model; empty if it went with its entry of a list."""
    for path, stay in lists.items():
        number, _, leaf = name.removeprefix(f"{path}.").partition(".")
        if name.startswith(f"{path}.") and number.isdecimal():
            place = stay.index(int(number)) if int(number) in stay else None
            return "" if place is None else f"{path}.{place}.{leaf}"
    return name


def _put(target: Tensor, source: Tensor, dims: Mapping[int, Tensor]) -> None:
    """Write numbers to their places: those of each expert to its own."""
    if any(index.ndim == 2 for index in dims.values()):
        for e in range(len(target)):
            _put(target[e], source[e], {dim - 1: index[e] for dim, index in dims.items()})
        return
    places = [torch.arange(size) for size in target.shape]
    for dim, index in dims.items():
        places[dim] = index
    target[torch.meshgrid(*places, indexing="ij")] = source


def _plan_in_place(model: PreTrainedModel, twin: PreTrainedModel, call: str) -> tuple[Kept, Plan]:
    """The units that stayed, and the plan of the cut: where they were, if the decision is known."""
    decision: Decision | None = vars(model).get("headcount_decision")
    again = kept_again(model, twin)
    planned = plan(twin, again)
    if decision is not None and _is_about(twin, decision):
        kept = {site.key: torch.tensor(site.kept, dtype=torch.long) for site in decision.sites}
        original = plan(twin, kept)
        if _same_shape(original, planned):
            return kept, original
    if planned.copies:
        raise CheckpointError(
            f"{call}: its layers have position biases of their own, which one shared table cannot "
            "hold without knowing the heads they came from. Pad the model right after it was cut "
            "from the dense one."
        )
    return again, planned


def _is_about(model: PreTrainedModel, decision: Decision) -> bool:
    sizes = {site.key: site.num_units for site in find_sites(model)}
    return all(sizes.get(site.key) == len(site.keep) for site in decision.sites)


def _same_shape(one: Plan, other: Plan) -> bool:
    return one.structure.get("shapes") == other.structure.get("shapes")
