"""Check the MACs of units against PyTorch's flop counter."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headcount.architectures import names
from headcount.architectures.costs import num_runs
from headcount.reports.measure import macs
from headcount.surgery.cut import cut
from headcount.units.costs import macs_of
from headcount.units.decision import Decision
from headcount.units.kinds import KIND, KINDS
from headcount.units.nesting import holds
from headcount.units.site import Site
from headcount.units.table import UnitTable
from headcount.zoo.checks import Subject, in_one_line, over
from headcount.zoo.decisions import nested
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.records import DENSE, Outcome


def counted(subject: Subject) -> Outcome:
    """Remove a unit of each kind and place, and compare the MACs saved with those predicted.

    The input is one sequence, and costs know only one length. If encoder and decoder read different
    numbers of tokens, cross-attention is not checked.
    """
    model = subject.single
    if any(re.fullmatch(names.DROPPING, type(module).__name__) for module in model.modules()):
        return Outcome(state="none", reason="the number of experts that run depends on the data")
    inputs = one_sequence(model)
    try:
        model(**inputs)
    except Exception as error:
        return Outcome(state="none", reason=f"{DENSE}, for one example: {in_one_line(error)}")
    tokens = _tokens(model, subject.units, inputs)
    whole = macs(model, inputs)
    checked = 0

    def failure(decision: Decision) -> str:
        nonlocal checked
        (site,) = {site.key for site in decision.sites if not all(site.keep)}
        found = next(one for one in subject.units.sites if one.key == site)
        length = _length(found, subject.units, tokens)
        if not length:
            return ""
        # Costs of one kind alone: those of other kinds are not part of its cost table.
        units = subject.units.only(found.kind)
        if found.kind == "neuron" and any(one.uncounted for one in units.sites):
            return ""  # neurons of experts: their layer is checked
        costs = macs_of(units, length)
        keep = torch.tensor([kept for one in decision.sites for kept in one.keep])
        predicted = costs.whole - costs.of(keep)
        saved = whole - macs(cut(model, decision), inputs)
        checked += 1
        said = f"{found.kind} of {found.module}: {predicted} MACs said, {saved} counted"
        return "" if predicted == saved else said

    outcome = over(_one_less(subject.units), failure)
    if outcome.state == "ok" and not checked:
        return Outcome(state="none", reason="its modules see different numbers of tokens")
    return outcome


def one_sequence(model: PreTrainedModel) -> dict[str, Tensor]:
    """Inputs of a forward pass on one example, equally long for encoder and decoder if possible."""
    inputs = dummy_inputs(model, batch=1)
    ids, target = inputs.get("input_ids"), inputs.get("decoder_input_ids")
    if ids is not None and target is not None and target.shape[:-1] == ids.shape[:-1]:
        inputs["decoder_input_ids"] = ids.clone()
    states = inputs.get("encoder_hidden_states")
    if ids is not None and states is not None:
        inputs["encoder_hidden_states"] = states[:, :1].repeat(1, ids.shape[1], 1)
    return inputs


def _tokens(model: PreTrainedModel, units: UnitTable, inputs: dict[str, Tensor]) -> dict[str, int]:
    """The number of tokens that each gated module gets in one run.

    0 if it runs more often than its costs say, such as once for each frame of a video.
    """
    seen: dict[str, list[int]] = {}

    def note(name: str, value: Any) -> None:
        if isinstance(value, Tensor) and value.ndim > 1:
            seen.setdefault(name, []).append(value.numel() // value.shape[-1])

    def hook(name: str) -> Any:
        return lambda module, args, kwargs: note(name, next(iter((*args, *kwargs.values())), None))

    with ExitStack() as stack, torch.no_grad():
        for name in {site.gate for site in units.sites}:
            module: nn.Module = model.get_submodule(name)
            handle = module.register_forward_pre_hook(hook(name), with_kwargs=True)
            stack.callback(handle.remove)
        model(**inputs)
    runs = {site.gate: num_runs(model, site.module) for site in units.sites}
    return {gate: max(n) if len(n) <= max(1, runs[gate]) else 0 for gate, n in seen.items()}


def _length(site: Site, units: UnitTable, tokens: dict[str, int]) -> int:
    """The number of tokens that a site gets; 0 if its parts get different numbers."""
    inside = [one for one in units.sites if holds(site.module, site.kind, one.module)]
    # A layer costs what its sublayers cost, so all of them must get one number of tokens. Cross-
    # attention reads the encoder's tokens as well: then every module counts.
    same = inside if KIND[site.kind].holds == "all below" else [site]
    lengths = {tokens.get(one.gate, 0) for one in same}
    if any(one.branch == "cross" for one in same):
        lengths |= {tokens.get(one.gate, 0) for one in units.sites}
    return lengths.pop() if len(lengths) == 1 else 0


def _one_less(units: UnitTable) -> Iterator[Decision]:
    """For each kind and place, a decision that removes one unit per group of the first such site.

    For heads also one that removes all: a head of zeros may then still run.
    """
    for kind in KINDS:
        table = units.only(kind)
        firsts: dict[tuple, Site] = {}
        for site in table.sites:
            firsts.setdefault((site.tower, site.stack, site.branch), site)
        for first in firsts.values():
            keeps = {site.key: torch.ones(site.num_units).bool() for site in table.sites}
            share = first.num_units // first.num_groups
            keeps[first.key][::share] = False
            yield nested(table, keeps)
            if kind == "head" and keeps[first.key].any():
                keeps[first.key][:] = False
                yield nested(table, keeps)
