"""Fit scales for the kept units, layer by layer, to make up for the removed ones."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from headcount.architectures.discover import units as find_units
from headcount.door.arguments import checks_arguments
from headcount.errors import BudgetError, TrainingError
from headcount.gates.attach import Gates, gate_dtype
from headcount.gates.modes import evaluating
from headcount.maths.scales import contributions, fit_scales
from headcount.post_training.decide import check_batches, each
from headcount.post_training.replay import Call, Replay, finishing_order
from headcount.post_training.residual import Sum, find_sum
from headcount.surgery.fold import output_weight
from headcount.training.parallel import check_alone
from headcount.units.decision import Decision
from headcount.units.site import Site

logger = logging.getLogger("headcount")


@checks_arguments
def rescale(
    model: nn.Module,
    decision: Decision,
    batches: Iterable[Mapping[str, Any]],
    *,
    damping: float = 0.01,
    largest: float = 10.0,
    report: Callable[[str], None] | None = None,
) -> Float[Tensor, " n"]:
    """Fit scales of the kept units that bring each sublayer closest to its dense output.

    Attention modules and feed-forward networks are fitted one after another, in the order in which
    the model runs them. In the masked model, whose earlier sublayers have their scales already, let
    ``a_tu`` be the contribution of unit u to the output at token t, and ``r_t`` the residual stream
    to which the output is added. Primes denote the dense model. The scales ``s`` minimise, damped:

    ``sum_t || r_t + sum_u s_u a_tu - r'_t - sum_u a'_tu ||^2``

    So a sublayer also corrects errors in the residual stream from earlier sublayers. If a layer
    scales or normalises the output before adding it, the terms in r are left out, with a warning.
    Padding does not count.

    Heads, key-value heads and neurons get scales; sublayers, layers and the neurons of experts keep
    ones. The model is not changed: ``fold`` puts the scales into weights, ``masked`` applies them
    for a trial. A model in half precision runs in float32 while scales are fitted, and then has
    its own weights again.

    Args:
        model: the dense model the decision is about.
        decision: what stays.
        batches: keyword arguments of the model, on its device; labels are not needed.
        damping: how strongly scales are pulled to one; see ``headcount.maths.scales.fit_scales``.
        largest: a sublayer with any scale of a larger absolute value keeps ones.
        report: called with a line for each sublayer.

    Returns:
        A scale for each unit of the decision, in its order; zero for removed units.

    Raises:
        ArgumentError: something of the wrong type, such as one batch for ``batches``.
        DecisionError: the decision is about another model.
        TrainingError: there are no batches, or several processes; or an output is not finite.
        BudgetError: a setting out of range.
        PruningError: the model has gates already.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=3))
        >>> scales = hc.rescale(model, decision, [{"input_ids": torch.arange(40).view(4, 10)}])
        >>> len(scales), scales.count_nonzero().item()
        (12, 3)

    Source: Kwon et al. 2022, arXiv 2204.09656, mask tuning.
    Differs: normal equations and Cholesky instead of LSMR; damping relative to the size of the
        contributions; a sublayer whose scales are too large keeps ones, and the sublayers behind
        it are tuned all the same.
    """
    check_batches("rescale", batches, needed=True)
    for name, value in (("damping", damping), ("largest", largest)):
        if not (math.isfinite(value) and value > 0):
            raise BudgetError(f"rescale({name}={value!r}): give a positive number.")
    check_alone("rescale")
    inputs = list(each("rescale", batches))
    if not inputs:
        raise TrainingError("rescale(batches=[]): scales are fitted to data. Give batches.")
    gates = Gates(model, decision.check(find_units(model)))
    try:
        with evaluating(model), _in_single_precision(model):
            tuner = _Tuner(model, decision, [_single(batch) for batch in inputs], gates)
            # In the model's order: each fit must see the errors left by the sublayers before it.
            for site, span in tuner.places():
                found = fit_scales(*tuner.moments(site, span), damping=damping)
                tuned = bool(found.abs().max() <= largest)
                if tuned:
                    tuner.scales[span][tuner.scales[span] != 0] = found
                if report is not None:
                    ends = f"{found.min():.3f} to {found.max():.3f}"
                    note = "" if tuned else ", too large; left at one"
                    report(f"{site.module}: scales {ends}{note}")
    finally:
        gates.remove()
    return tuner.scales


HALF = (torch.float16, torch.bfloat16)


@contextmanager
def _in_single_precision(model: nn.Module) -> Iterator[None]:
    """Run the model in float32 inside the block; afterwards it has the same tensors again.

    In half precision, rounding can change a sum by more than what was added to it.
    """
    every = (*model.parameters(), *model.buffers())
    own = [(tensor, tensor.data) for tensor in every if tensor.dtype in HALF]
    try:
        for tensor, data in own:
            tensor.data = data.float()
        yield
    finally:
        for tensor, data in own:
            tensor.data = data


def _single(batch: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.float() if isinstance(value, Tensor) and value.dtype in HALF else value
        for name, value in batch.items()
    }


class _Tuner:
    """Compares the dense and the masked model, one sublayer after another."""

    def __init__(
        self,
        model: nn.Module,
        decision: Decision,
        batches: Sequence[Mapping[str, Any]],
        gates: Gates,
    ) -> None:
        every = find_units(model)
        self.model, self.batches, self.gates = model, batches, gates
        self.units = decision.check(every)
        self.scales = decision.keep(self.units).to(torch.float64)
        self._heads = {site.gate for site in self.units.sites if site.kind == "head"}
        self.device, self.dtype = next(model.parameters()).device, gate_dtype(model)
        layers = [site.module for site in every.sites if site.kind == "layer"]
        projections = [site.gate for site in self.units.sites if _reads_all_tokens(site)]
        self.order = finishing_order(model, batches[0], projections)
        self.sums = self._find_sums()
        names = [*projections, *(found.module for found in self.sums.values()), *layers]
        order = finishing_order(model, batches[0], names)
        self.dense = Replay(model, batches, order, layers, steady=True)
        self.masked = Replay(model, batches, order, layers)

    def _find_sums(self) -> dict[str, Sum]:
        """Where the outputs of projections called once are added to the residual stream."""
        once = [name for name in self.order if self.order.count(name) == 1]
        tried = {name: find_sum(self.model, self.batches[0], name) for name in dict.fromkeys(once)}
        sums = {name: found for name, found in tried.items() if found is not None}
        order = finishing_order(self.model, self.batches[0], [s.module for s in sums.values()])
        sums = {name: found for name, found in sums.items() if order.count(found.module) == 1}
        without = [name for name in dict.fromkeys(self.order) if name not in sums]
        if without:
            logger.warning(
                "rescale: for %d of %d sublayers no sum with the residual stream was found; their "
                "scales are fitted to their outputs alone: %s",
                len(without),
                len(set(self.order)),
                ", ".join(without),
            )
        return sums

    def places(self) -> Iterable[tuple[Site, slice]]:
        """A site for each projection that keeps units, in the order of the model.

        If the decision is about heads and key-value heads, the heads are scaled.
        """
        found = {
            site.gate: (site, span)
            for site, span in zip(self.units.sites, self.units.slices, strict=True)
            if _reads_all_tokens(site) and (site.kind != "kv_head" or site.gate not in self._heads)
        }
        for gate in dict.fromkeys(self.order):
            site, span = found[gate]
            if self.scales[span].any():
                yield site, span

    def moments(self, site: Site, span: slice) -> tuple[Tensor, Tensor]:
        """Inner products of the contributions, [k, k], and of each with what is missing, [k]."""
        kept = self.scales[span].nonzero().flatten()
        columns = (kept[:, None] * site.width + torch.arange(site.width)).flatten()
        # Not every accelerator has float64; sums over tokens are held on the CPU.
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        weight = output_weight(self.model, site)[columns.to(self.device)].to(exact)
        # Least squares needs only these sums over tokens, so no contribution [T, k, o] is stored.
        second = torch.zeros(len(columns), len(columns), dtype=torch.float64)
        along = torch.zeros(len(columns), dtype=torch.float64)
        for index in range(len(self.batches)):
            for x, missing in self._tokens(site, index):
                own = x[:, columns.to(self.device)].to(exact)
                second += (own.T @ own).cpu()
                along += (own * (missing.to(exact) @ weight.T)).sum(0).cpu()
        if not along.isfinite().all():
            raise TrainingError(
                f"rescale: an input or an output of {site.gate} is not finite. Look at the data "
                "and the model."
            )
        products = contributions(second, weight.cpu().double(), width=site.width)
        return products, along.unflatten(0, (-1, site.width)).sum(1)

    def _tokens(self, site: Site, index: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Inputs of the masked projection, [T, i], and dense minus masked output, [T, o]."""
        found = self.sums.get(site.gate)
        names = [site.gate] if found is None else [site.gate, found.module]
        self.gates.value = None
        dense = self.dense.calls(index, *names)
        self.gates.value = self.scales.to(device=self.device, dtype=self.dtype)
        masked = self.masked.calls(index, *names)
        pairs = zip(_results(dense, site, found), _results(masked, site, found), strict=True)
        for (args, _), (wanted, had) in zip(masked[site.gate], pairs, strict=True):
            x: Tensor = args[0]
            counts = self._counted(site, index, x)
            yield x[counts], (wanted - had)[counts]

    def _counted(self, site: Site, index: int, x: Tensor) -> Bool[Tensor, "..."]:
        """True for tokens that are not padding; all if no mask of a fitting shape is given."""
        config = vars(self.model).get("config")
        decodes = site.stack == "decoder" and bool(getattr(config, "is_encoder_decoder", False))
        name = "decoder_attention_mask" if decodes else "attention_mask"
        return counted_tokens(self.batches[index].get(name), x)


def counted_tokens(mask: Any, x: Tensor) -> Bool[Tensor, "..."]:
    """Find the tokens of a module's input that are not padding, by the attention mask.

    Args:
        mask: 1 for tokens and 0 for padding, [B, T]; anything else is ignored.
        x: the module's input: [B, T, D], or [B * T, D] if the model flattens batch and tokens,
            example after example.

    Returns:
        True for tokens that count, in the shape of ``x`` without its last dimension. All count if
        the mask does not fit.

    Example:
        >>> counted_tokens(torch.tensor([[1, 1], [1, 0]]), torch.zeros(4, 8))
        tensor([ True,  True,  True, False])
    """
    shape = x.shape[:-1]
    if isinstance(mask, Tensor) and mask.ndim == 2:
        below = len(shape) == 1 and mask.numel() == len(x)  # batch and tokens flattened
        if below or mask.shape == shape:
            return mask.reshape(shape).bool()
    return torch.ones(shape, dtype=torch.bool, device=x.device)


def _reads_all_tokens(site: Site) -> bool:
    """Whether scales are fitted for a site; an expert reads only some tokens, so it keeps ones."""
    return site.gated == "input" and not site.routed


def _results(calls: Mapping[str, list[Call]], site: Site, found: Sum | None) -> list[Tensor]:
    if found is None:
        return [output for _, output in calls[site.gate]]
    return [found.of(*call) for call in calls[found.module]]
