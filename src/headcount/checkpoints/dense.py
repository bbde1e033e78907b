"""The dense model that a cut one was made from: its shape, without its weights."""

import copy

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from headcount.architectures.config import MARK, Left, relative
from headcount.architectures.discover import find_sites
from headcount.architectures.places import parts_of
from headcount.errors import CheckpointError
from headcount.surgery.biases import OWN_BIAS
from headcount.surgery.draft import Plan
from headcount.surgery.plan import plan
from headcount.units.site import Site


def dense_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a configuration without the account of what was cut, sub-configurations too."""
    plain = copy.deepcopy(config)
    for part in parts_of(plain):
        part.__dict__.pop(MARK, None)
    return plain


def dense_twin(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the stock class and the dense shape, on the meta device."""
    with torch.device("meta"):
        return type(model)(dense_config(model.config))


def marks(model: PreTrainedModel) -> dict[str, Left]:
    """What the marks of a model's configurations say is left, by the owning model's name."""
    found: dict[str, Left] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        config = vars(module).get("config")
        known = isinstance(module, PreTrainedModel) and isinstance(config, PreTrainedConfig)
        if known and MARK in vars(config) and id(config) not in seen:
            seen.add(id(config))
            found[name] = vars(config)[MARK]["left"]
    return found


def kept_of(model: PreTrainedModel, left: Left) -> dict[tuple[str, str], Tensor]:
    """The units of a dense model that stand for those that are left.

    Raises:
        CheckpointError: a site is to have more units than the dense model has.
    """
    kept: dict[tuple[str, str], Tensor] = {}
    sites = find_sites(model)
    num_heads = {site.module: site.num_units for site in sites if site.kind == "head"}
    for site in sites:
        asked = left.get(relative(model, site.module), {})
        heads = asked.get("head")
        if (
            site.kind == "group"
            and isinstance(heads, list)
            and not isinstance(asked.get("group"), list)
        ):  # the groups that these heads belong to
            share = num_heads[site.module] // site.num_units
            kept[site.key] = (torch.tensor(heads, dtype=torch.long) // share).unique()
        elif site.kind in asked:
            kept[site.key] = _kept(site, asked)
        if OWN_BIAS in asked:
            kept[site.module, OWN_BIAS] = torch.arange(1)
    return kept


def plan_again(model: PreTrainedModel) -> tuple[PreTrainedModel, Plan]:
    """The dense twin of a cut model, and the plan that leads from it to the cut shape."""
    twin = dense_twin(model)
    return twin, plan(twin, kept_again(model, twin))


def kept_again(model: PreTrainedModel, twin: PreTrainedModel) -> dict[tuple[str, str], Tensor]:
    """The units of a cut model's dense twin that stand for those that the cut model has."""
    kept: dict[tuple[str, str], Tensor] = {}
    for owner, left in marks(model).items():
        inner = twin.get_submodule(owner)
        assert isinstance(inner, PreTrainedModel)
        front = f"{owner}." if owner else ""
        found = kept_of(inner, left)
        kept |= {(f"{front}{name}", kind): index for (name, kind), index in found.items()}
    return kept


def _kept(site: Site, asked: dict[str, int | list[int]]) -> Tensor:
    """Which units of the dense site stand for those that are left."""
    count = asked[site.kind]
    index = torch.tensor(count) if isinstance(count, list) else torch.arange(count)
    if len(index) > site.num_units or (len(index) and int(index.max()) >= site.num_units):
        raise CheckpointError(
            f"from_pretrained: config.json asks for {count} units of kind {site.kind!r} in "
            f"{site.module}; the dense model has {site.num_units}. The configuration was changed "
            "by hand or is damaged."
        )
    if site.kind == "head" and site.num_groups > 1 and not isinstance(count, list):
        groups = asked.get("group", site.num_groups)
        num_groups = len(groups) if isinstance(groups, list) else groups
        share = count // num_groups if num_groups else 0
        every = torch.arange(site.num_units).unflatten(0, (site.num_groups, -1))
        return every[:, :share].flatten()
    return index
