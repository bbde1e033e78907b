"""Rebuild the shape of the dense model from which a cut one was made, without weights."""

import copy
from collections import defaultdict

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from headcount.architectures.config import relative
from headcount.architectures.discover import Discovery, discover
from headcount.architectures.locations import parts_of
from headcount.architectures.mark import MARK, Left, check_left, mark_of
from headcount.architectures.stock import stock_class
from headcount.errors import CheckpointError
from headcount.surgery.biases import OWN_BIAS
from headcount.surgery.draft import Plan
from headcount.surgery.plan import plan
from headcount.units.site import Site


def dense_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a configuration, and of those inside it, without marks.

    Its class is transformers', also if the configuration is from a standalone folder.
    """
    plain = copy.deepcopy(config)
    for part in parts_of(plain):
        if mark_of(part):
            part.__dict__.pop(MARK)
    plain.__class__ = stock_class(type(plain))
    return plain


def dense_twin(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the stock class and the dense shape, on the meta device."""
    with torch.device("meta"):
        return stock_class(type(model))(dense_config(model.config))


def marks(model: PreTrainedModel) -> dict[str, Left]:
    """Name of a model inside the whole -> the units that its configuration's mark lists."""
    # A model with a task head and its base model share one configuration: it counts once, for the
    # outer one.
    found: dict[str, Left] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        config = vars(module).get("config")
        mark = mark_of(config) if isinstance(module, PreTrainedModel) else None
        if mark and id(config) not in seen:
            seen.add(id(config))
            found[name] = mark["left"]
    return found


def kept_of(model: PreTrainedModel, found: Discovery, left: Left) -> dict[tuple[str, str], Tensor]:
    """The units of a dense model that correspond to those that are left.

    If the mark has only a number, the first units are taken: for the shape, which ones makes no
    difference.

    Args:
        model: the dense model.
        found: what was discovered in it.
        left: the units in its mark. Each entry must be about a site of this model, or about a stack
            that the model lacks: an encoder that is loaded alone has no decoder.

    Raises:
        CheckpointError: the model does not have a site, or has fewer units there.
    """
    kept: dict[tuple[str, str], Tensor] = {}
    num_heads = {site.module: site.num_units for site in found.sites if site.kind == "head"}
    by_path: dict[str, list[Site]] = defaultdict(list)
    for site in found.sites:
        by_path[relative(model, site.module)].append(site)
    parts = {part for name, _ in model.named_modules() for part in name.split(".")}
    known = {(path, site.kind): site for path, named in by_path.items() for site in named}
    check_left(left, known, parts)
    for path, asked in left.items():
        for site in by_path.get(path, []):
            heads = asked.get("head")
            if (
                site.kind == "kv_head"
                and isinstance(heads, list)
                and not isinstance(asked.get("kv_head"), list)
            ):  # the key-value heads that these query heads share
                share = num_heads[site.module] // site.num_units
                kept[site.key] = (torch.tensor(heads, dtype=torch.long) // share).unique()
            elif site.kind in asked:
                kept[site.key] = _kept(site, asked)
            if OWN_BIAS in asked:
                kept[site.module, OWN_BIAS] = torch.arange(1)
    return kept


def plan_again(model: PreTrainedModel) -> tuple[PreTrainedModel, Plan]:
    """The dense twin of a cut model, and the plan that turns it into the cut shape."""
    twin = dense_twin(model)
    found = discover(twin)
    return twin, plan(twin, found, kept_again(model, twin, found))


def kept_again(
    model: PreTrainedModel, twin: PreTrainedModel, found: Discovery
) -> dict[tuple[str, str], Tensor]:
    """The units of a cut model's dense twin that correspond to those of the cut model.

    Args:
        model: the cut model.
        twin: its dense twin.
        found: what was discovered in the twin.
    """
    kept: dict[tuple[str, str], Tensor] = {}
    for owner, left in marks(model).items():
        inner = twin.get_submodule(owner)
        assert isinstance(inner, PreTrainedModel)
        front = f"{owner}." if owner else ""
        # A part with a mark of its own is discovered by itself, as when it is loaded: names and
        # places of its sites are then seen from the part.
        own = kept_of(inner, discover(inner) if owner else found, left)
        kept |= {(f"{front}{name}", kind): index for (name, kind), index in own.items()}
    return kept


def _kept(site: Site, asked: dict[str, int | list[int]]) -> Tensor:
    """The indices of a dense site's units that correspond to those that are left."""
    count = asked[site.kind]
    index = torch.tensor(count) if isinstance(count, list) else torch.arange(count)
    # Query heads of shared key-value heads, or neurons of experts: the first ones of each group, so
    # that every group has equally many.
    if site.num_groups > 1 and not isinstance(count, list):
        groups = asked.get("kv_head", site.num_groups)
        num_groups = len(groups) if isinstance(groups, list) else groups
        share, over = divmod(count, num_groups) if num_groups else (0, count)
        if over:
            raise CheckpointError(
                f"from_pretrained: config.json asks for {count} units of kind {site.kind!r} in "
                f"{site.module}, in {num_groups} groups of equally many. The configuration was "
                "changed by hand or is damaged."
            )
        every = torch.arange(site.num_units).unflatten(0, (site.num_groups, -1))
        return every[:, :share].flatten()
    return index
