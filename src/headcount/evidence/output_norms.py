"""Norms of the units' contributions to the residual stream, as evidence."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from headcount.errors import ArchitectureError, TrainingError
from headcount.evidence.collector import Call, PassCollector, When, valid_tokens
from headcount.gates.passes import in_backward
from headcount.units.kinds import KIND
from headcount.units.site import Part, Site


@final
class OutputNorms(PassCollector):
    r"""Mean norm of each unit's contribution to the residual stream, [N], with a gradient.

    ``n = mean over tokens t of ||F(x_t)||_2 / sqrt(d)``, where ``F`` is the unit's contribution
    before its gate, and ``d`` the width of the residual stream. The contribution of a sublayer
    includes the output projection's bias; that of a head or a neuron does not. Padding is ignored
    if the call has an ``attention_mask``. A module that is called several times gives the mean.

    For heads and neurons the norm is computed from the Gram matrix of their slice of the output
    projection. That is exact, and needs no tensor with the output of every single unit.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).eval()
        >>> collector = OutputNorms(model, hc.units(model, "sublayer"))
        >>> ids = torch.tensor([[1, 2, 3]])
        >>> collector.begin(Call(model, (ids,), {}))
        >>> norms = collector.end(model(ids))
        >>> norms.shape, norms.requires_grad
        (torch.Size([2]), True)
        >>> collector.remove()

    Source: function norms as in Lin et al. 2020, arXiv 2010.01791.
    """

    field: ClassVar[str] = "output_norms"
    when: ClassVar[When] = "in a pass"

    def _hooks(self) -> Iterator[RemovableHandle]:
        self._call: Call | None = None
        self._with_grad = False
        self._seen: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
        for site in self._units.sites:
            module = self._model.get_submodule(site.gate)
            # prepend: before the gate's own hook, which multiplies the output or the input.
            if site.gated == "output":
                yield module.register_forward_hook(partial(self._after, site), prepend=True)
            elif site.gated == "input" and not site.routed and (part := _projection(site)):
                hook = partial(self._before, site, part)
                yield module.register_forward_pre_hook(hook, prepend=True)
            else:
                raise ArchitectureError(
                    f"output_norms: the contribution of the {KIND[site.kind].nouns} of "
                    f"{site.module} cannot be separated from that of others. Give a budget of "
                    "sublayers, or another method."
                )

    def begin(self, call: Call) -> None:
        """Forget the norms of an earlier pass."""
        self._call, self._with_grad = call, torch.is_grad_enabled()
        self._seen.clear()

    def end(self, output: Any) -> Tensor | None:
        """The norms of the pass, [N].

        Raises:
            ArchitectureError: some unit was not called in the pass.
        """
        call, self._call = self._call, None
        seen = dict(self._seen)
        self._seen.clear()
        if output is None or call is None:
            return None
        missing = [site.module for site in self._units.sites if site.key not in seen]
        if missing:
            raise ArchitectureError(
                f"output_norms: {missing[0]} ({len(missing)} in all) was not called in this pass. "
                "Give inputs for all parts of the model, or a budget of those that are called."
            )
        # A module that several layers share (ALBERT) is called once for each of them.
        means = (
            torch.stack([_mean(norms, call, site.stack) for norms in seen[site.key]]).mean(0)
            for site in self._units.sites
        )
        return torch.cat([*means])

    def _after(self, site: Site, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        norms = _precise(first).norm(dim=-1, keepdim=True)
        self._note(site, norms, width=first.shape[-1])

    def _before(self, site: Site, part: Part, module: nn.Module, args: tuple[Any, ...]) -> None:
        x = _precise(args[0]).unflatten(-1, (site.num_units, -1))  # [B, T, H, D]
        weight = _precise(module.get_parameter(part.name)).movedim(part.dim, 0)
        weight = weight.unflatten(0, (site.num_units, -1))  # [H, D, d]
        gram = weight @ weight.mT  # [H, D, D]
        squares = torch.einsum("...hd,hde,...he->...h", x, gram, x)
        self._note(site, _root(squares), width=weight.shape[-1])

    def _note(self, site: Site, norms: Tensor, width: int) -> None:
        """Store the norms of one site for each token and unit, [B, T, units].

        When a checkpointed layer runs again in the backward pass, this runs again too, perhaps
        after another pass with another mask. It must then compute the same. So the mean over
        tokens, which depends on the mask, is taken in ``end``, and a repeated layer is not stored.

        Raises:
            TrainingError: the pass has gradients and the layer has none, as in checkpointing with
                ``use_reentrant=True``.
        """
        norms = norms / width**0.5
        if self._call is None or in_backward():
            return
        if self._with_grad and not torch.is_grad_enabled():
            raise TrainingError(
                "output_norms: with gradient_checkpointing(use_reentrant=True) the norms of a pass "
                "have no gradient. Give gradient_checkpointing_kwargs={'use_reentrant': False}."
            )
        self._seen[site.key].append(norms)


def _projection(site: Site) -> Part | None:
    """The output projection's weight, if it is the weight of the gated module itself."""
    parts = (part for part in site.parts if part.role in ("output", "down"))
    return next((p for p in parts if p.module == site.gate and p.name == "weight"), None)


def _mean(norms: Tensor, call: Call, stack: str) -> Tensor:
    """The mean over tokens that are not padding, [units]."""
    valid = valid_tokens(call, stack, norms.shape[:2])
    if valid is None:
        return norms.flatten(0, -2).mean(0)
    share = valid.to(norms)[..., None] / valid.sum()
    return (norms * share).flatten(0, -2).sum(0)


def _precise(x: Tensor) -> Tensor:
    """The tensor in float32, or float64 if it is that: sums of squares overflow in half precision.

    Example:
        >>> _precise(torch.ones(1, dtype=torch.float16)).dtype
        torch.float32
    """
    return x if x.dtype == torch.float64 else x.float()


def _root(squares: Tensor) -> Tensor:
    """Square roots whose gradient at zero is zero, not infinite.

    Example:
        >>> x = torch.tensor([0.0, 4.0], requires_grad=True)
        >>> _root(x).sum().backward()
        >>> x.grad
        tensor([0.0000, 0.2500])
    """
    positive = squares > 0
    return torch.where(positive, squares.where(positive, torch.ones_like(squares)).sqrt(), 0.0)
