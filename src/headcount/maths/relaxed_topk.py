"""Relaxed top-k: gates sum to K at every temperature and become the K highest of N at zero."""

import functools
import math
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from headcount.errors import BudgetError
from headcount.maths import relaxed_topk_torch

LOG_TINY = math.log(torch.finfo(torch.float64).tiny)  # -708.4, the authors' floor of log(1 - p).
LOG_EPS = math.log(torch.finfo(torch.float64).eps / 2)  # -36.7, log(1 - p) of the p next to one.
LARGEST_INVERSE_TEMPERATURE = 1e100  # Colder changes no gate, but its products could overflow.


def relaxed_top_k(
    logits: Float[Tensor, "*batch n"], num_keep: int, temperature: float
) -> Float[Tensor, "*batch n"]:
    r"""Gates g >= 0 that sum to K and, as the temperature falls to 0, pick the K highest logits.

    alpha^1 = logits; p^k = softmax(alpha^k / tau); alpha^(k+1) = alpha^k + log(1 - p^k);
    g = p^1 + ... + p^K. At high temperatures a single gate can exceed one.

    The computation and the result are float64 whatever the dtype of the logits: rounded to
    float32, a thousand gates no longer sum to K within 1e-6. Gradients come in the logits' dtype.

    Args:
        logits: one row of N finite logits for each draw, perturbed or not, [..., N].
        num_keep: K, the number of units to keep, 0 to N.
        temperature: tau, above 0.

    Returns:
        The gates, [..., N] float64; each row sums to K.

    Raises:
        BudgetError: K is not in 0 to N, tau is not a finite number above 0, or a logit is not
            finite.

    Example:
        >>> logits = torch.tensor([3.0, 1.0, 2.0, 0.0])
        >>> relaxed_top_k(logits, 2, temperature=1e-8)
        tensor([1., 0., 1., 0.], dtype=torch.float64)
        >>> relaxed_top_k(logits, 2, temperature=1.0).round(decimals=3)
        tensor([1.0840, 0.2400, 0.5840, 0.0920], dtype=torch.float64)

    Source: Plötz and Roth, "Neural nearest neighbors networks", 2018, arXiv 1810.12575; Xie and
        Ermon, "Reparameterizable subset sampling via continuous relaxations", 2019, arXiv
        1901.10517; for heads, Li, Cotterell and Sachan, "Differentiable subset pruning of
        Transformer heads", TACL 2021, arXiv 2108.04657.

    Differs: K = N gives ones with zero gradient at every temperature, since there is nothing to
        choose; the recurrence gives ones only in the limit (1.23 and 0.77 for logits 1, 0 at
        tau = 1). The rest as in ``successive_softmax``.
    """
    _check("relaxed_top_k", logits, num_keep, temperature)
    # Computed from the logits, so that autograd gives them a gradient of zero, and not none.
    if num_keep == logits.shape[-1]:
        return 0 * logits.double() + 1
    return _apply(logits, num_keep, temperature)[0]


def successive_softmax(
    logits: Float[Tensor, "*batch n"], num_keep: int, temperature: float
) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n"]]:
    r"""The gates of ``relaxed_top_k`` and the logits left after them, to go on from.

    Taking K units, and then M more by the logits that are left, is the same as taking K + M. So a
    minimum can be taken in each layer first, and the rest over all layers. Both results are
    differentiable.

    With G the gradient of the gates and s that of alpha, the way back is, for k = K ... 1,
    h = G - s / (1 - p^k) and s <- s + p^k (h - p^k . h) / tau.

    Args:
        logits: one row of N finite logits for each draw, [..., N].
        num_keep: K, the number of softmaxes, 0 to N.
        temperature: tau, above 0.

    Returns:
        The gates g = p^1 + ... + p^K and the logits alpha^(K+1), both [..., N] float64.

    Raises:
        BudgetError: as ``relaxed_top_k``.

    Example:
        >>> logits = torch.tensor([3.0, 1.0, 2.0, 0.0])
        >>> first, left = successive_softmax(logits, 1, temperature=0.5)
        >>> second, _ = successive_softmax(left, 1, temperature=0.5)
        >>> torch.allclose(first + second, relaxed_top_k(logits, 2, temperature=0.5))
        True

    Source: as ``relaxed_top_k``.

    Differs: log(1 - p) has the authors' floor, log of the smallest normal double, as long as the
        logits of a row lie within 671 of each other. Beyond that the floor is lower, so that a
        unit taken whole always sinks below the others and is not taken again. Where p rounds to
        one the floor holds and the gradient of log(1 - p) is zero. Gradients that outgrow 1e100
        or the logits' dtype stop at the limit instead of becoming infinite or nan.

    Note: where tau is near the gaps between neighbouring logits, the recurrence amplifies what goes
        through it, step after step. For standard Gumbel logits, K = N / 2 and tau = 0.003,
        gradients reach 1e8 to 1e16 at N = 144 and 1e23 to 1e34 at N = 1024, and changing the last
        bit of a logit changes the gates in the first digit: a property of the function, not of
        its evaluation. Clip the gradient of the logits, apart from that of the weights.
    """
    _check("successive_softmax", logits, num_keep, temperature)
    return _apply(logits, num_keep, temperature)


class SuccessiveSoftmax(torch.autograd.Function):
    """``successive_softmax`` on a table of rows, [B, N], with its own backward pass.

    Autograd through the recurrence would keep several tensors for each of the K steps, and gives
    nan where p rounds to one.
    """

    @staticmethod
    def forward(ctx, logits, num_keep, inverse_temperature, kernels):
        """Gates and next logits, [B, N] float64; stores the softmaxes for ``backward``."""
        ctx.kernels, ctx.dtype = kernels, logits.dtype
        ctx.inverse_temperature = inverse_temperature
        table = logits.detach().double()
        gates, next_logits, history = kernels.forward(
            table, _floor(table), num_keep, inverse_temperature
        )
        ctx.save_for_backward(history)
        return gates, next_logits

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs):  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradient of the logits, finite in their dtype."""
        (history,) = ctx.saved_tensors
        grad_gates, grad_next = (grad.detach() for grad in grad_outputs)
        grad = ctx.kernels.backward(history, grad_gates, grad_next, ctx.inverse_temperature)
        # float64 reaches further than the logits' dtype: without the clamp it would give inf.
        limit = torch.finfo(ctx.dtype).max
        return grad.clamp(-limit, limit).to(ctx.dtype), None, None, None


def _apply(logits: Tensor, num_keep: int, temperature: float) -> tuple[Tensor, Tensor]:
    inverse_temperature = min(1 / temperature, LARGEST_INVERSE_TEMPERATURE)
    table = logits.reshape(logits.shape[:-1].numel(), logits.shape[-1])
    gates, next_logits = SuccessiveSoftmax.apply(
        table, num_keep, inverse_temperature, _kernels(logits.device)
    )
    return gates.reshape(logits.shape), next_logits.reshape(logits.shape)


def _kernels(device: torch.device) -> ModuleType:
    """Numba's kernels for tensors on a CPU, if numba is installed; else PyTorch's."""
    return (_compiled_kernels() if device.type == "cpu" else None) or relaxed_topk_torch


@functools.cache
def _compiled_kernels() -> ModuleType | None:
    try:
        from headcount.maths import relaxed_topk_numba
    except ImportError:  # Not installed, or too old for this numpy.
        return None
    return relaxed_topk_numba


def _floor(logits: Float[Tensor, "batch n"]) -> Float[Tensor, "batch 1"]:
    """The floor of log(1 - p), lower than the spread of the row.

    So a unit that was taken whole falls below all others and is not taken again.
    """
    if logits.shape[-1] == 0:
        return logits.new_zeros(len(logits), 1)
    width = logits.amax(-1, keepdim=True) - logits.amin(-1, keepdim=True)
    return (LOG_EPS - width).clamp(max=LOG_TINY)


def _check(call: str, logits: Tensor, num_keep: int, temperature: float) -> None:
    n = logits.shape[-1]
    if not 0 <= num_keep <= n:
        raise BudgetError(f"{call}(num_keep={num_keep}): a row has {n} logits. Give 0 to {n}.")
    if not 0 < temperature < math.inf:
        raise BudgetError(
            f"{call}(temperature={temperature}): gates need a finite temperature above 0. "
            "Give 1e-8 for gates that are all but hard."
        )
    if not logits.isfinite().all():
        where = (~logits.isfinite()).nonzero()[0].tolist()
        raise BudgetError(
            f"{call}: the logit at {where} is {logits[tuple(where)].item()}. Give finite logits; "
            "look for a loss or a gradient that is not finite."
        )
