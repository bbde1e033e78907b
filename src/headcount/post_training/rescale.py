"""Scales of the units that stay, layer by layer: they stand in for those that go."""

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
    """Scales of the kept units that bring each layer nearest to what the dense one gives.

    One attention module or feed-forward network after another, in the order in which the model
    runs them. With ``a_tu`` what unit u adds to the output at token t of the masked model, whose
    earlier sublayers have their scales already, ``r_t`` what the output is added to, and primes
    for the dense model, the scales ``s`` make this least:

    ``sum_t || r_t + sum_u s_u a_tu - r'_t - sum_u a'_tu ||^2``, damped.

    So a sublayer also mends what is wrong in the residual stream that it adds to. Where a layer
    does not simply add (it scales or normalises the output first), the terms in r are left out,
    which is logged. Tokens of padding do not count.

    Heads, key-value heads and neurons get scales; sublayers, layers and the neurons of experts keep
    theirs at one. The model is not changed; ``fold`` puts the scales into weights, ``masked`` tries
    them out. A model in half precision runs in float32 until the scales are found; then it has its
    own weights again.

    Args:
        model: the dense model the decision is about.
        decision: what stays.
        batches: keyword arguments of the model, on its device; labels are not needed.
        damping: how much the scales are held at one; see ``headcount.maths.scales.fit_scales``.
        largest: a sublayer with any scale beyond this, up or down, keeps ones.
        report: called with a line for each sublayer.

    Returns:
        A scale for each unit that the decision is about, in its order; zero for those that go.

    Raises:
        ArgumentError: something of the wrong type, such as one batch for ``batches``.
        DecisionError: the decision is about another model.
        TrainingError: no batches, or one of several processes.
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
        contributions; a sublayer whose scales are too large is passed over, and those behind it
        are tuned all the same.
    """
    check_batches("rescale", batches, needed=True)
    for name, value in (("damping", damping), ("largest", largest)):
        if not (math.isfinite(value) and value > 0):
            raise BudgetError(f"rescale({name}={value!r}): give a positive number.")
    check_alone("rescale")
    inputs = list(each("rescale", batches))
    if not inputs:
        raise TrainingError("rescale(batches=[]): scales are fitted to data. Give batches.")
    modes = [(module, module.training) for module in model.modules()]
    gates = Gates(model, decision.check(find_units(model)))
    model.eval()
    try:
        with _in_single_precision(model):
            tuner = _Tuner(model, decision, [_single(batch) for batch in inputs], gates)
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
        for module, mode in modes:
            module.training = mode
    return tuner.scales


HALF = (torch.float16, torch.bfloat16)


@contextmanager
def _in_single_precision(model: nn.Module) -> Iterator[None]:
    """Weights of half precision as float32 for a while, afterwards the same tensors again.

    A sum in half precision moves by what was added only up to a rounding that can be larger.
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
    """The dense model and the masked one side by side, at one sublayer after another."""

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
        """Where the projections that are called once have been added to the residual stream."""
        once = [name for name in self.order if self.order.count(name) == 1]
        tried = {name: find_sum(self.model, self.batches[0], name) for name in dict.fromkeys(once)}
        sums = {name: found for name, found in tried.items() if found is not None}
        order = finishing_order(self.model, self.batches[0], [s.module for s in sums.values()])
        sums = {name: found for name, found in sums.items() if order.count(found.module) == 1}
        without = [name for name in dict.fromkeys(self.order) if name not in sums]
        if without:
            logger.warning(
                "rescale: for %d of %d sublayers no sum with the residual stream was found; their "
                "scales do not see it: %s",
                len(without),
                len(set(self.order)),
                ", ".join(without),
            )
        return sums

    def places(self) -> Iterable[tuple[Site, slice]]:
        """A site of each projection that something goes into, in the order of the model.

        Where heads and key-value heads are decided upon, it is the heads that are scaled.
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
        """Products of the contributions, [k, k], and of them with what is missing, [k]."""
        kept = self.scales[span].nonzero().flatten()
        columns = (kept[:, None] * site.width + torch.arange(site.width)).flatten()
        # Not every accelerator has float64; sums over tokens are held on the CPU.
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        weight = output_weight(self.model, site)[columns.to(self.device)].to(exact)
        second = torch.zeros(len(columns), len(columns), dtype=torch.float64)
        along = torch.zeros(len(columns), dtype=torch.float64)
        for index in range(len(self.batches)):
            for x, missing in self._tokens(site, index):
                own = x[:, columns.to(self.device)].to(exact)
                second += (own.T @ own).cpu()
                along += (own * (missing.to(exact) @ weight.T)).sum(0).cpu()
        if not along.isfinite().all():
            raise TrainingError(
                f"rescale: what goes into or comes out of {site.gate} is not finite. Look at the "
                "data and the model."
            )
        products = contributions(second, weight.cpu().double(), width=site.width)
        return products, along.unflatten(0, (-1, site.width)).sum(1)

    def _tokens(self, site: Site, index: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Inputs of the masked projection, [T, i], and what its output lacks, [T, o]."""
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
        """The tokens that are not padding, where a mask of the right shape says so."""
        config = vars(self.model).get("config")
        decodes = site.stack == "decoder" and bool(getattr(config, "is_encoder_decoder", False))
        name = "decoder_attention_mask" if decodes else "attention_mask"
        return counted_tokens(self.batches[index].get(name), x)


def counted_tokens(mask: Any, x: Tensor) -> Bool[Tensor, "..."]:
    """The tokens of a module's input that are no padding, by the attention mask.

    Args:
        mask: 1 for tokens and 0 for padding, [B, T]; anything else says nothing.
        x: what goes into the module: [B, T, D], or [B * T, D] where the model puts all tokens one
            below the other, example after example.

    Returns:
        True for the tokens that count, all of them where the mask does not say; in the shape of
        ``x`` without its last dimension.

    Example:
        >>> counted_tokens(torch.tensor([[1, 1], [1, 0]]), torch.zeros(4, 8))
        tensor([ True,  True,  True, False])
    """
    shape = x.shape[:-1]
    if isinstance(mask, Tensor) and mask.ndim == 2:
        below = len(shape) == 1 and mask.numel() == len(x)  # one below the other
        if below or mask.shape == shape:
            return mask.reshape(shape).bool()
    return torch.ones(shape, dtype=torch.bool, device=x.device)


def _reads_all_tokens(site: Site) -> bool:
    """Whether scales can be found for a site: the units of experts keep theirs at one."""
    return site.gated == "input" and not site.routed


def _results(calls: Mapping[str, list[Call]], site: Site, found: Sum | None) -> list[Tensor]:
    if found is None:
        return [output for _, output in calls[site.gate]]
    return [found.of(*call) for call in calls[found.module]]
