"""The fast relaxed top-k against its slow twin, on both paths.

How equality is judged. The recurrence amplifies rounding where tau is near the gaps between
logits (a last bit can change the first digit of a gate), and 1 - p keeps few digits where p is
near one. So (1) single steps are compared everywhere, each from a state on the twin's own path, to
1e-9 plus what rounding p by some ulps does to log(1 - p); where p rounds to one or next to it the
floor and its zero gradient depend on the last bit, and only the twin's gates are binding; (2) whole
runs are compared to 1e-9 at temperatures that are not below the gaps; (3) gradcheck.
"""

import math
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headcount.errors import BudgetError
from headcount.maths import relaxed_topk, relaxed_topk_torch
from headcount.maths.gumbel import gumbel_noise
from headcount.maths.relaxed_topk import SuccessiveSoftmax, relaxed_top_k, successive_softmax
from reference import relaxed_topk as twin

EPS = torch.finfo(torch.float64).eps
TEMPERATURES = (1e3, 30.0, 1.0, 0.3, 0.1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
PATHS = ("torch", "numba")


def kernels(path: str) -> ModuleType:
    if path == "torch":
        return relaxed_topk_torch
    pytest.importorskip("numba")
    from headcount.maths import relaxed_topk_numba

    return relaxed_topk_numba


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    chosen = kernels(request.param)
    monkeypatch.setattr(relaxed_topk, "_kernels", lambda device: chosen)
    return request.param


def gumbel_logits(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    return spread * normal + gumbel_noise(shape, generator)


def pulled_back(function, logits: Tensor, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gates, next logits and the gradient of the logits, for these gradients of the two."""
    logits = logits.clone().requires_grad_()
    gates, next_logits = function(logits)
    torch.autograd.backward((gates, next_logits), grads)
    assert logits.grad is not None
    return gates.detach(), next_logits.detach(), logits.grad


def assert_close(ours: Tensor, theirs: Tensor, slack: Tensor | float = 0.0) -> None:
    excess = (ours - theirs).abs() - 1e-9 * theirs.abs().clamp(min=1.0) - slack
    assert (excess <= 0).all(), f"{excess.max().item()} too far"


def assert_steps_agree(path: str, logits: Tensor, num_keep: int, tau: float, seed: int) -> None:
    """Every step from its state on the twin's path, as one batch."""
    states = twin.trajectory(logits, num_keep, tau)
    generator = torch.Generator().manual_seed(seed)
    grads = torch.randn((2, *states.shape), generator=generator, dtype=torch.float64)
    gates, left, grad = pulled_back(
        lambda x: SuccessiveSoftmax.apply(x, 1, 1 / tau, kernels(path)), states, *grads
    )
    their_gates, their_left, their_grad = pulled_back(
        lambda x: twin.successive_softmax(x, 1, tau), states, *grads
    )
    # The twin divides before it subtracts: alpha / tau is off by half an ulp of itself.
    blur = 2 * EPS * (1 + states.abs().amax(-1, keepdim=True) / tau)
    assert_close(gates, their_gates, blur)
    rest = 1 - their_gates.maximum(gates)
    lost = (blur + 4 * EPS) / rest.masked_fill(rest == 0, torch.inf)
    settled, whole = rest > 8 * EPS, 1 - their_gates.minimum(gates) == 0
    assert_close(left[settled], their_left[settled], lost[settled])
    assert (left[~settled] < states[~settled] - 30).all()
    clear = (settled | whole).all(-1)
    slope = grads.abs().amax() / tau
    assert_close(grad[clear], their_grad[clear], 8 * slope * lost.amax(-1, keepdim=True)[clear])
    assert grad.isfinite().all()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize(("n", "num_keep"), [(144, 72), (31, 31), (257, 128)])
def test_every_step_equals_the_twins(path: str, n: int, num_keep: int, tau: float) -> None:
    assert_steps_agree(path, gumbel_logits(n), num_keep, tau, seed=1)


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_step_equals_the_twins(path: str, data: st.DataObject) -> None:
    value = st.floats(-50, 50) | st.integers(-3, 3).map(float)  # Integers: ties.
    logits = torch.tensor(data.draw(st.lists(value, min_size=1, max_size=24)), dtype=torch.float64)
    num_keep = data.draw(st.integers(1, len(logits)))
    tau = 10 ** data.draw(st.floats(-8, 3))
    assert_steps_agree(path, logits, num_keep, tau, seed=data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 60),
    fraction=st.floats(0, 1),
    batch=st.sampled_from([(), (1,), (3,), (2, 2)]),
    log_tau=st.floats(-0.5, 3),
    seed=st.integers(0, 999),
)
def test_whole_runs_equal_the_twins(
    path: str, n: int, fraction: float, batch: tuple[int, ...], log_tau: float, seed: int
) -> None:
    num_keep, tau = round(fraction * n), 10**log_tau
    logits = gumbel_logits(*batch, n, seed=seed, spread=0.5)
    grads = gumbel_logits(2, *batch, n, seed=seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relaxed_topk, "_kernels", lambda device: kernels(path))
        ours = pulled_back(lambda x: successive_softmax(x, num_keep, tau), logits, *grads)
    theirs = pulled_back(lambda x: twin.successive_softmax(x, num_keep, tau), logits, *grads)
    p = torch.softmax(logits / tau, -1)
    slack = 1e-12 / (tau * (1 - p).clamp(min=EPS).amin().item()) if n > 1 else 40.0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == logits.shape
        assert_close(mine, other, slack)


@pytest.mark.parametrize("tau", [1e3, 1.0, 0.1, 1e-8])
@pytest.mark.parametrize("shape", [(144,), (2, 3, 50)])
def test_gates_and_gradient_equal_the_twins(path: str, shape: tuple[int, ...], tau: float) -> None:
    logits, grad = gumbel_logits(*shape), gumbel_logits(*shape, seed=1)
    zeros, num_keep = torch.zeros_like(logits), shape[-1] // 3
    ours = pulled_back(lambda x: (relaxed_top_k(x, num_keep, tau), x * 0), logits, grad, zeros)
    theirs = pulled_back(lambda x: twin.successive_softmax(x, num_keep, tau), logits, grad, zeros)
    assert_close(ours[0], theirs[0])
    assert_close(ours[2], theirs[2])


@pytest.mark.parametrize("tau", [0.3, 1.0, 20.0])
@pytest.mark.parametrize(("n", "num_keep"), [(1, 1), (5, 2), (6, 6), (4, 0)])
def test_gradcheck(path: str, n: int, num_keep: int, tau: float) -> None:
    logits = gumbel_logits(2, n, spread=0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: successive_softmax(x, num_keep, tau), logits)


@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize(
    ("n", "num_keep"),
    [(1, 1), (2, 1), (2, 2), (17, 16), (144, 12), (144, 144), (2048, 1), (2048, 200)],
)
@pytest.mark.parametrize("kind", ["gumbel", "equal", "wide"])
def test_sum_is_k_and_all_is_finite(
    path: str, kind: str, n: int, num_keep: int, tau: float
) -> None:
    logits = {
        "gumbel": gumbel_logits(n),
        "equal": torch.full((n,), 0.3, dtype=torch.float64),
        "wide": gumbel_logits(n, spread=1e4),
    }[kind]
    for function in (relaxed_top_k, lambda *x: successive_softmax(*x)[0]):
        logits = logits.detach().requires_grad_()
        gates = function(logits, num_keep, tau)
        assert gates.sum().item() == pytest.approx(num_keep, abs=1e-6)
        assert gates.isfinite().all()
        assert gates.min() >= 0
        (grad,) = torch.autograd.grad(gates @ gumbel_logits(n, seed=3), logits)
        assert grad.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize("num_keep", [1024, 2047, 2048])
def test_sum_is_k_at_the_largest_sizes(path: str, num_keep: int, tau: float) -> None:
    logits = gumbel_logits(2048).requires_grad_()
    gates, _ = successive_softmax(logits, num_keep, tau)
    assert gates.sum().item() == pytest.approx(num_keep, abs=1e-6)
    (grad,) = torch.autograd.grad(gates @ gumbel_logits(2048, seed=3), logits)
    assert grad.isfinite().all()


@pytest.mark.parametrize("num_keep", [0, 1, 7, 99, 100])
@pytest.mark.parametrize("spread", [1.0, 100.0, 1e4])
def test_cold_gates_are_the_hard_top_k(path: str, num_keep: int, spread: float) -> None:
    logits = gumbel_logits(100, spread=spread)
    hard = torch.zeros(100, dtype=torch.float64)
    hard[logits.topk(num_keep).indices] = 1
    torch.testing.assert_close(relaxed_top_k(logits, num_keep, 1e-8), hard, atol=1e-6, rtol=0)
    gates, _ = successive_softmax(logits, num_keep, 1e-8)
    torch.testing.assert_close(gates, hard, atol=1e-6, rtol=0)


def test_units_taken_whole_are_not_taken_again_however_far_apart(path: str) -> None:
    logits = torch.arange(2000, dtype=torch.float64)  # The authors' floor would let 1999 return.
    gates = relaxed_top_k(logits, 1000, 1e-8)
    assert gates[:1000].equal(torch.zeros(1000, dtype=torch.float64))
    assert gates[1000:].equal(torch.ones(1000, dtype=torch.float64))


@pytest.mark.parametrize("tau", TEMPERATURES)
def test_keeping_all_gives_ones_without_gradient(path: str, tau: float) -> None:
    logits = gumbel_logits(2, 9).requires_grad_()
    gates = relaxed_top_k(logits, 9, tau)
    assert gates.equal(torch.ones(2, 9, dtype=torch.float64))
    (grad,) = torch.autograd.grad(gates.sum(), logits)
    assert grad.equal(torch.zeros_like(grad))


def test_keeping_none_gives_zeros_without_gradient(path: str) -> None:
    logits = gumbel_logits(2, 9).requires_grad_()
    gates = relaxed_top_k(logits, 0, 1.0)
    assert gates.equal(torch.zeros(2, 9, dtype=torch.float64))
    (grad,) = torch.autograd.grad(gates.sum(), logits)
    assert grad.equal(torch.zeros_like(grad))


@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0)])
def test_empty_rows_and_batches(path: str, shape: tuple[int, ...]) -> None:
    gates, left = successive_softmax(torch.zeros(shape), 0, 1.0)
    assert gates.shape == left.shape == shape
    assert relaxed_top_k(torch.zeros(shape), 0, 1.0).shape == shape


@pytest.mark.parametrize("n", [7, 16, 145, 2047])
def test_equal_logits_keep_equal_gates(path: str, n: int) -> None:
    gates = relaxed_top_k(torch.full((n,), 0.3), n // 2, 1e-8)
    assert (gates == gates[0]).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_results_are_float64_and_gradients_finite_in_the_logits_dtype(
    path: str, dtype: torch.dtype
) -> None:
    logits = torch.zeros(3, 144, dtype=dtype).requires_grad_()  # Ties: the gradient overflows.
    gates, left = successive_softmax(logits, 72, 1e-8)
    assert gates.dtype == left.dtype == torch.float64
    assert (gates.sum(-1) - 72).abs().max() < 1e-9
    (grad,) = torch.autograd.grad((gates * gumbel_logits(144)).sum(), logits)
    assert grad.dtype == dtype
    assert grad.isfinite().all()
    assert grad.abs().max() > 1e4


def test_k_then_m_is_k_plus_m(path: str) -> None:
    logits = gumbel_logits(2, 30)
    first, left = successive_softmax(logits, 4, 0.5)
    second, last = successive_softmax(left, 7, 0.5)
    gates, expected = successive_softmax(logits, 11, 0.5)
    torch.testing.assert_close(first + second, gates, atol=1e-12, rtol=0)
    torch.testing.assert_close(last, expected, atol=1e-12, rtol=0)


def test_inputs_stay_as_they_were_and_any_layout_will_do(path: str) -> None:
    logits = gumbel_logits(30, 4).T
    before, version = logits.clone(), logits._version
    gates = relaxed_top_k(logits, 10, 0.7)
    assert logits.equal(before)
    assert logits._version == version
    assert gates.equal(relaxed_top_k(logits.contiguous(), 10, 0.7))
    expanded = before[:1].expand(4, 30).requires_grad_()
    relaxed_top_k(expanded, 10, 0.7).sum().backward()  # A gradient without memory of its own.


def test_nan_gradients_are_passed_on(path: str) -> None:
    logits = gumbel_logits(2, 9).requires_grad_()
    weights = torch.ones(2, 9, dtype=torch.float64)
    weights[0, 0] = math.nan
    (grad,) = torch.autograd.grad((relaxed_top_k(logits, 3, 1.0) * weights).sum(), logits)
    assert grad[0].isnan().all()
    assert grad[1].isfinite().all()


@pytest.mark.parametrize("tau", [5e-324, 1e-200, 1e200])
def test_extreme_temperatures_are_finite(path: str, tau: float) -> None:
    logits = gumbel_logits(9).requires_grad_()
    gates, left = successive_softmax(logits, 4, tau)
    assert gates.sum().item() == pytest.approx(4)
    (grad,) = torch.autograd.grad((gates * logits.detach()).sum() + left.sum(), logits)
    assert grad.isfinite().all()


@pytest.mark.parametrize("function", [relaxed_top_k, successive_softmax])
def test_refusals_say_what_is_allowed(function) -> None:
    name, logits = function.__name__, torch.zeros(2, 5)
    for num_keep in (-1, 6):
        message = rf"{name}\(num_keep={num_keep}\): a row has 5 logits\. Give 0 to 5\."
        with pytest.raises(BudgetError, match=message):
            function(logits, num_keep, 1.0)
    for tau in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=rf"{name}\(temperature={tau}\): .* above 0"):
            function(logits, 2, tau)
    for value in (math.nan, math.inf, -math.inf):
        logits[1, 3] = value
        with pytest.raises(BudgetError, match=rf"{name}: the logit at \[1, 3\] is {value}\. Give"):
            function(logits, 2, 1.0)


def test_numba_is_for_cpu_tensors_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert relaxed_topk._kernels(torch.device("cuda")) is relaxed_topk_torch
    assert relaxed_topk._kernels(torch.device("cpu")) is kernels("numba")
    monkeypatch.setattr(relaxed_topk, "_compiled_kernels", lambda: None)
    assert relaxed_topk._kernels(torch.device("cpu")) is relaxed_topk_torch


def test_without_numba_the_rule_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "headcount.maths.relaxed_topk_numba", None)
    monkeypatch.delattr("headcount.maths.relaxed_topk_numba", raising=False)
    assert relaxed_topk._compiled_kernels.__wrapped__() is None


def test_polynomials_are_good_to_the_last_bits() -> None:
    compiled = kernels("numba")
    for x in torch.linspace(-707, 0, 2001, dtype=torch.float64).tolist():
        assert compiled._exp(x) == pytest.approx(math.exp(x), rel=4 * EPS, abs=0)
    for p in torch.logspace(-300, math.log10(0.5), 2001, dtype=torch.float64).tolist():
        assert compiled._log_of_rest(p) == pytest.approx(math.log1p(-p), rel=4 * EPS, abs=0)
    assert compiled._exp(-708.5) == compiled._exp(-math.inf) == 0
