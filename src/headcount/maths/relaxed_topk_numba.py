r"""The successive softmaxes of ``relaxed_topk`` on a CPU, compiled by numba.

Both functions return what those of ``relaxed_topk_torch`` return, up to rounding; read that file
first. ``relaxed_topk`` imports this file at its first call, if numba is installed
(``pip install headcount[fast]``). Compiling takes seconds, once: numba stores the machine code next
to this file or, if that folder is read-only, in the user's cache folder.

Why it is fast: PyTorch spends some microseconds on each of the dozen operations of a step, even if
N is small. Here a step is a few passes over N numbers that stay in the nearest cache. Each pass is
a plain loop of multiply-adds, which LLVM turns into vector instructions. For that, ``exp`` and
``log`` are Taylor polynomials, accurate to the last bits of a double. A pass treats all elements
alike, so equal logits get exactly equal gates.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from headcount.maths.relaxed_topk_torch import ADJOINT_LIMIT

LOG2_E = 1 / math.log(2)
LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # The first 33 bits of ln 2: exact times m.
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")  # The rest of ln 2.
ROUNDER = 1.5 * 2.0**52  # Added to a small double, leaves it rounded, in the lowest bits.
EXP = tuple(1 / math.factorial(i) for i in range(14))  # exp(x) = sum_i EXP[i] x^i.
ATANH = tuple(1 / (2 * i + 1) for i in range(16))  # atanh(x) = x sum_i ATANH[i] x^(2i).


def compiled(*flags: str) -> Callable:
    """A decorator that compiles with numba and these freedoms in floating-point arithmetic.

    "contract" allows fused multiply-adds; "reassoc", "nsz" and "nnan" let sums and maxima be taken
    in any order, if no element is nan.
    """
    return njit(cache=True, nogil=True, error_model="numpy", fastmath=set(flags))


@compiled("contract")
def _exp(x):
    """e^x for x <= 0: with x = m ln 2 + rest, 2^m e^rest; zero below the normal doubles."""
    shifted = x * LOG2_E + ROUNDER
    m = shifted - ROUNDER
    rest = (x - m * LN2_HIGH) - m * LN2_LOW
    value = EXP[13]
    for i in range(12, -1, -1):
        value = value * rest + EXP[i]
    bits = np.float64(shifted).view(np.int64)
    power = np.int64((bits + 1023) << 52).view(np.float64)
    return value * power if x > -708.0 else 0.0


@compiled("contract")
def _log_of_rest(p):
    """log(1 - p) = -2 atanh(p / (2 - p)), for 0 <= p <= 1/2."""
    x = p / (2.0 - p)
    square = x * x
    value = ATANH[15]
    for i in range(14, -1, -1):
        value = value * square + ATANH[i]
    return -2.0 * x * value


@compiled("reassoc", "nsz", "nnan")
def _largest(values):
    largest = values[0]
    for i in range(values.size):
        largest = max(largest, values[i])
    return largest


@compiled("reassoc", "nsz")
def _sum(values):
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


@compiled("contract")
def _weights(alpha, top, inverse_temperature, out):
    for i in range(alpha.size):
        out[i] = _exp((alpha[i] - top) * inverse_temperature)


@compiled("contract")
def _take(p, scale, gates, alpha):
    for i in range(p.size):
        p[i] *= scale
        gates[i] += p[i]
        alpha[i] += _log_of_rest(p[i])


@compiled("contract")
def _forward(alpha, floor, gates, history, inverse_temperature):
    for row in range(history.shape[0]):
        for k in range(history.shape[1]):
            p = history[row, k]
            top = _largest(alpha[row])
            _weights(alpha[row], top, inverse_temperature, p)
            scale = 1.0 / _sum(p)
            _take(p, scale, gates[row], alpha[row])
            # _log_of_rest is accurate up to p = 1/2. The top weight is 1, so its p is scale; no
            # other p exceeds 1/2.
            if scale > 0.5:
                rest = 1.0 - scale
                fall = math.log(rest) if rest > 0.0 else floor[row, 0]
                alpha[row, np.argmax(p)] = top + fall


@compiled("contract", "reassoc", "nsz")
def _slopes(p, grad_gates, adjoint, out):
    dot = 0.0
    for i in range(p.size):
        rest = 1.0 - p[i]
        out[i] = grad_gates[i] - adjoint[i] / (rest if rest > 0.0 else np.inf)
        dot += p[i] * out[i]
    return dot


@compiled("contract")
def _pull_back(p, slope, dot, inverse_temperature, adjoint):
    for i in range(p.size):
        value = adjoint[i] + inverse_temperature * (p[i] * (slope[i] - dot))
        adjoint[i] = min(max(value, -ADJOINT_LIMIT), ADJOINT_LIMIT)


@compiled("contract")
def _backward(history, grad_gates, adjoint, inverse_temperature):
    slope = np.empty(history.shape[2])
    for row in range(history.shape[0]):
        for k in range(history.shape[1] - 1, -1, -1):
            p = history[row, k]
            dot = _slopes(p, grad_gates[row], adjoint[row], slope)
            _pull_back(p, slope, dot, inverse_temperature, adjoint[row])


def forward(
    logits: Float[Tensor, "batch n"],
    floor: Float[Tensor, "batch 1"],
    num_keep: int,
    inverse_temperature: float,
) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch n"], Float[Tensor, "batch k n"]]:
    """As in ``relaxed_topk_torch``, but for the order of the history's axes."""
    alpha = logits.clone(memory_format=torch.contiguous_format)
    gates = torch.zeros_like(alpha)
    history = alpha.new_empty(len(alpha), num_keep, alpha.shape[1])
    buffers = (alpha.numpy(), floor.numpy(), gates.numpy(), history.numpy())
    _forward(*buffers, inverse_temperature)
    return gates, alpha, history


def backward(
    history: Float[Tensor, "batch k n"],
    grad_gates: Float[Tensor, "batch n"],
    grad_next: Float[Tensor, "batch n"],
    inverse_temperature: float,
) -> Float[Tensor, "batch n"]:
    """As in ``relaxed_topk_torch``, but for the order of the history's axes."""
    adjoint = grad_next.clone(memory_format=torch.contiguous_format)
    buffers = (history.numpy(), grad_gates.contiguous().numpy(), adjoint.numpy())
    _backward(*buffers, inverse_temperature)
    return adjoint
