"""How much each unit adds, as evidence."""

from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar, cast, final

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
    r"""Mean norm of what each unit adds to the residual stream, [N], with a gradient.

    ``n = mean over tokens t of ||F(x_t)||_2 / sqrt(d)``, where ``F`` is what the unit adds before
    its gate (the output projection's bias counts for a sublayer, not for a head or a neuron), and
    ``d`` the width of the residual stream. Padding is left out where the call has an
    ``attention_mask``.

    Heads and neurons are taken through the Gram matrix of their share of the output projection,
    which is exact and needs no tensor as large as all units' outputs.

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
        self._seen: dict[tuple[str, str], Tensor] = {}
        for site in self._units.sites:
            module = self._model.get_submodule(site.gate)
            if site.gated == "output":  # before the gate's own hook, which multiplies the output
                yield module.register_forward_hook(partial(self._after, site), prepend=True)
            elif site.gated == "input" and not site.routed and self._projection(site) is not None:
                yield module.register_forward_pre_hook(partial(self._before, site), prepend=True)
            else:
                raise ArchitectureError(
                    f"output_norms: what the {KIND[site.kind].nouns} of {site.module} add cannot "
                    "be seen apart from what others add. Give a budget of sublayers, or another "
                    "method."
                )

    def begin(self, call: Call) -> None:
        """Forget what an earlier pass gave."""
        self._call, self._seen = call, {}

    def end(self, output: Any) -> Tensor | None:
        """The norms of the pass, [N].

        Raises:
            ArchitectureError: some unit was not called in the pass.
        """
        call, self._call = self._call, None
        seen, self._seen = self._seen, {}
        if output is None or call is None:
            return None
        missing = [site.module for site in self._units.sites if site.key not in seen]
        if missing:
            raise ArchitectureError(
                f"output_norms: {missing[0]} ({len(missing)} in all) was not called in this pass. "
                "Give inputs for all parts of the model, or a budget of those that are called."
            )
        return torch.cat([_mean(seen[site.key], call, site.stack) for site in self._units.sites])

    def _after(self, site: Site, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        norms = _precise(first).norm(dim=-1, keepdim=True)
        self._note(site, norms, width=first.shape[-1])

    def _projection(self, site: Site) -> Part | None:
        """The weight by which the units' shares of the gated module's input are projected back."""
        parts = (part for part in site.parts if part.role in ("output", "down"))
        matrix = (part for part in parts if part.module == site.gate and part.name == "weight")
        return next(matrix, None)

    def _before(self, site: Site, module: nn.Module, args: tuple[Any, ...]) -> None:
        part = cast(Part, self._projection(site))
        x = _precise(args[0]).unflatten(-1, (site.num_units, -1))  # [B, T, H, D]
        weight = _precise(module.get_parameter(part.name)).movedim(part.dim, 0)
        weight = weight.unflatten(0, (site.num_units, -1))  # [H, D, d]
        gram = weight @ weight.mT  # [H, D, D]
        squares = torch.einsum("...hd,hde,...he->...h", x, gram, x)
        self._note(site, _root(squares), width=weight.shape[-1])

    def _note(self, site: Site, norms: Tensor, width: int) -> None:
        """Remember the norms of one site, one for each token and unit, [B, T, units].

        The mean over tokens is taken in ``end``, outside of the layers: what is computed here is
        computed again when a checkpointed layer runs again, and has to be the same then, whatever
        pass came in between. It is not remembered a second time.
        """
        norms = norms / width**0.5
        if self._call is None or in_backward():
            return
        if self._call.module.training and not torch.is_grad_enabled():
            self._check_checkpointing()
        self._seen[site.key] = norms

    def _check_checkpointing(self) -> None:
        """Refuse checkpointing that runs layers without a gradient first.

        Raises:
            TrainingError: the norms would have no gradient.
        """
        modules = self._model.modules()
        if any(vars(module).get("gradient_checkpointing", False) for module in modules):
            raise TrainingError(
                "output_norms: with gradient_checkpointing(use_reentrant=True) the norms of a pass "
                "have no gradient. Give gradient_checkpointing_kwargs={'use_reentrant': False}."
            )


def _mean(norms: Tensor, call: Call, stack: str) -> Tensor:
    """The mean over tokens that are no padding, [units]."""
    valid = valid_tokens(call, stack, norms.shape[:2])
    if valid is None:
        return norms.flatten(0, -2).mean(0)
    share = valid.to(norms)[..., None] / valid.sum()
    return (norms * share).flatten(0, -2).sum(0)


def _precise(x: Tensor) -> Tensor:
    """In float32, or better where it is: sums of squares overflow in half precision.

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
