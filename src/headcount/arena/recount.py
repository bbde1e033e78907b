"""Count what a cell has left, from the shapes of its saved weights, and compare it with the budget.

Nothing here believes the decision: units are found in the reloaded model, parameters are counted,
and MACs are those that a counter counts.
"""

from collections.abc import Callable

from torch import Tensor, nn
from transformers import PreTrainedModel

from headcount.architectures.discover import units
from headcount.architectures.positions import max_tokens
from headcount.errors import SurgeryError
from headcount.reports.measure import example_batch, macs, num_params
from headcount.units.budget import Budget
from headcount.units.cost_limit import CostLimit
from headcount.units.costs import macs_of
from headcount.units.decision import Decision
from headcount.units.kinds import KIND
from headcount.units.quota import CountQuota

Example = Callable[[PreTrainedModel, int, int], dict[str, Tensor]]
"""A function that makes inputs for a model: (model, examples, tokens of each) -> inputs."""


def check_recount(
    call: str,
    budget: Budget,
    dense: PreTrainedModel,
    small: PreTrainedModel,
    decision: Decision,
    example: Example = example_batch,
) -> None:
    """Refuse a model that has not what its budget asks for.

    Args:
        call: the cell and its folder, for the message.
        budget: a number of one kind of unit, or a cost.
        dense: the model before the cut.
        small: the model after it, reloaded.
        decision: its decision.
        example: makes the inputs for which MACs are counted.

    Raises:
        SurgeryError: the numbers differ.
    """
    (quota,) = budget.quotas(units(dense))
    if isinstance(quota, CountQuota):
        (kind,) = quota.units.kinds
        found = num_units(small, kind, budget.place)
        told, asked = f"{found} {KIND[kind].nouns}", quota.num_keep
    elif isinstance(quota, CostLimit) and budget.params is not None:
        found, asked = num_params(small), decision.provenance["cost"]["reached"]
        told = f"{found} parameters"
    elif "input_ids" in example(dense, 1, 1):
        found, asked = saved_macs(budget, dense, small, decision, example)
        told = f"{found} MACs less than the dense one"
    else:
        # Images and sound have as many tokens as they have, not as many as the budget names.
        kinds = quota.units.kinds
        found = sum(num_units(small, kind, budget.place) for kind in kinds)
        asked, told = decision.num_kept, f"{found} units of the kinds {', '.join(kinds)}"
    beyond = budget.cost is not None and decision.provenance["cost"]["reached"] > quota.target
    if found != asked or beyond:
        limit = f" at most {quota.target}," if beyond else ""
        raise SurgeryError(
            f"{call}, the model has {told}, asked were{limit} {asked}. This is an error of "
            "headcount; please report it."
        )


def num_units(model: nn.Module, kind: str, place: str) -> int:
    """The number of units of a kind at a place; 0 if nothing is left there.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> num_units(BertModel(BertConfig(num_hidden_layers=1)), "head", "self")
        12
    """
    own = units(model).only(kind)
    return own.at(place).num(kind) if not place or own.has(place) else 0


def saved_macs(
    budget: Budget,
    dense: PreTrainedModel,
    small: PreTrainedModel,
    decision: Decision,
    example: Example = example_batch,
) -> tuple[int, int]:
    """MACs that were saved: counted in a pass of both models, and by the decision.

    Both are at the budget's length, or at the longest that the model reads. ``example`` makes the
    token ids of the pass.
    """
    (quota,) = budget.quotas(units(dense))
    longest = max_tokens(dense) or getattr(dense.config, "max_position_embeddings", budget.length)
    length = min(budget.length, longest)
    batch = example(dense, 1, length)
    costs = macs_of(quota.units, length)
    expected = costs.whole - costs.of(decision.keep(quota.units))
    return macs(dense, batch) - macs(small, batch), expected
