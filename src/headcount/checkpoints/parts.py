"""Save a model with a part that was cut by itself: the whole's configuration does not know it."""

from transformers import PreTrainedConfig, PreTrainedModel

from headcount.architectures.locations import parts_of
from headcount.architectures.mark import mark_of
from headcount.errors import CheckpointError


def adopt_parts(model: PreTrainedModel) -> None:
    """Put the configurations of parts that were cut by themselves into that of the whole.

    Args:
        model: a model about to be saved. If its configuration still has the dense configuration of
            such a part, that is replaced by the part's own.

    Raises:
        CheckpointError: it is not clear which configuration the part's should replace.
    """
    known = {id(part) for part in parts_of(model.config)}
    for name, module in model.named_modules():
        config = vars(module).get("config")
        if not isinstance(module, PreTrainedModel) or id(config) in known:
            continue
        if mark_of(config) or "headcount_decision" in vars(module):
            _adopt(model, name, module.config)
            known |= {id(part) for part in parts_of(module.config)}


def _adopt(model: PreTrainedModel, name: str, config: PreTrainedConfig) -> None:
    found = [
        (owner, key)
        for owner in parts_of(model.config)
        for key, value in vars(owner).items()
        if isinstance(value, PreTrainedConfig) and _stands_for(value, config)
    ]
    # The dense configuration of the part is one that no module uses any more.
    used = {id(vars(m).get("config")) for m in model.modules() if isinstance(m, PreTrainedModel)}
    free = [(owner, key) for owner, key in found if id(vars(owner)[key]) not in used]
    if len(free) != 1:
        raise CheckpointError(
            f"save_pretrained({type(model).__name__}): {name!r} was cut by itself. Its "
            f"{type(config).__name__} should replace a part of the whole model's configuration, "
            f"but {len(free)} parts fit. Cut the whole model instead, with a budget for this part, "
            "or put the part's configuration into the whole one yourself."
        )
    ((owner, key),) = free
    setattr(owner, key, config)


def _stands_for(dense: PreTrainedConfig, cut: PreTrainedConfig) -> bool:
    """Whether a configuration may be the dense one of a part: same class, same hidden size."""
    widths = [getattr(config, "hidden_size", None) for config in (dense, cut)]
    return type(dense) is type(cut) and widths[0] == widths[1]
