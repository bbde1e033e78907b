"""Hard concrete gates as a method: pressure, target, settling, decision."""

from itertools import pairwise

import pytest
import torch
from torch import Generator

import headcount as hc
from cases import batch, bert, llama
from headcount.evidence.evidence import Evidence
from headcount.maths.hard_concrete import open_chance
from headcount.methods.method import Step

UNITS = hc.units(bert())
PENALTY = hc.HardConcrete(pressure=hc.L0Penalty(weight=0.5))


def started(method, budget, seed=0):
    """The quota, the method's state at the start, and the generator that goes on."""
    generator = Generator().manual_seed(seed)
    (quota,) = budget.quotas(UNITS)
    return quota, method.init(quota, generator), generator


def at(index, total=100):
    return Step(index=index, total=total)


def toy(method, budget, total, seed):
    """A run on a toy loss, to which each unit is worth a fixed amount; what is left at each step.

    Returns the worths, the state, and for each step expected minus asked, as a share of all.
    """
    quota, state, generator = started(method, budget, seed)
    num = len(quota.units)
    worth = torch.rand(num, generator=generator, dtype=torch.float64) * 0.3 / num
    optimizer = torch.optim.Adam(state.parameters(), lr=method.learning_rate)
    gaps = []
    for index in range(round(total * (1 - method.settle))):
        step = at(index, total)
        gates = method.gates(state, step, generator)
        loss = ((1 - gates) * worth).sum() + method.penalty(state, step, Evidence())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        numbers = method.metrics(state, step)
        gaps.append((numbers["expected"] - numbers["target"]) / num)
    return worth, state, torch.tensor(gaps)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("budget", [hc.Budget(heads=6), hc.Budget(neurons=60)], ids=str)
def test_the_expected_sparsity_follows_its_target(budget, seed):
    method = hc.HardConcrete()
    worth, state, gaps = toy(method, budget, 1000, seed)
    after = round(0.5 * 0.8 * 1000)  # the target rises over half of the run before the gates settle
    assert gaps[after:].abs().max() < 0.01
    assert gaps.abs().max() < 0.15
    kept = state.quota.keep(method.scores(state))
    best = worth.sort(descending=True).values[: int(kept.sum())]
    assert worth[kept].sum() > 0.97 * best.sum()


def test_a_stiff_start_keeps_the_expected_sparsity_closer_to_its_target():
    off = []
    for stiffness in (0.0, 30.0):
        method = hc.HardConcrete(pressure=hc.Lagrangian(stiffness=stiffness))
        _, _, gaps = toy(method, hc.Budget(heads=3), 400, 0)
        off.append(gaps.abs().mean().item())
    assert off[1] < 0.5 * off[0]


def test_the_target_rises_from_nothing_to_that_of_the_budget_before_the_gates_settle():
    method = hc.HardConcrete(pressure=hc.Lagrangian(warmup=0.5), settle=0.2)
    _, state, _ = started(method, hc.Budget(heads=3))
    targets = [method.metrics(state, at(i))["target"] for i in (0, 20, 40, 79, 80, 100)]
    assert targets == pytest.approx([12, 7.5, 3, 3, 3, 3])


@pytest.mark.parametrize(("index", "sign"), [(0, 1), (60, -1)])
def test_lambda1_goes_down_while_too_little_is_closed_and_up_while_too_much(index, sign):
    """At the start a tenth is closed on the mean: first more, later less than the target."""
    method = hc.HardConcrete()
    _, state, _ = started(method, hc.Budget(heads=3))
    method.penalty(state, at(index), Evidence()).backward()
    torch.optim.SGD(state.parameters(), lr=1.0).step()
    excess = 0.1 if index == 0 else 0.1 - 0.75
    assert state.pressure.linear.item() == pytest.approx(excess, abs=2e-3)
    assert state.pressure.linear.item() * sign > 0
    assert state.pressure.quadratic.item() == pytest.approx(30 + excess**2, abs=2e-3)


@pytest.mark.parametrize("method", [hc.HardConcrete(), PENALTY], ids=lambda method: method.name)
def test_the_penalty_is_a_scalar_of_the_model_s_usual_dtype_that_reaches_all_that_is_learnt(method):
    _, state, _ = started(method, hc.Budget(heads=3))
    penalty = method.penalty(state, at(50), Evidence())
    penalty.backward()
    assert (penalty.shape, penalty.dtype) == ((), torch.float32)
    assert all(p.grad is not None and (p.grad != 0).all() for p in state.parameters())
    assert (state.log_alpha.grad > 0).all()  # descent closes every gate


def test_the_price_of_open_gates_is_the_weight_times_their_expected_number():
    _, state, _ = started(PENALTY, hc.Budget(heads=3))
    chances = open_chance(state.log_alpha.detach().double(), 0.33)
    price = PENALTY.penalty(state, at(0), Evidence())
    assert price.item() == pytest.approx(0.5 * chances.sum().item())
    assert chances.tolist() == pytest.approx([0.9] * 12, abs=0.01)
    assert PENALTY.metrics(state, at(0)).keys() == {"expected", "decided"}


def test_every_pass_draws_each_gate_anew_and_most_are_exact():
    method = hc.HardConcrete()
    _, state, generator = started(method, hc.Budget(neurons=30))
    gates = torch.stack([method.gates(state, at(0), generator) for _ in range(200)]).detach()
    assert gates.dtype == torch.float64
    assert (gates[0] != gates[1]).any()
    assert ((gates >= 0) & (gates <= 1)).all()
    assert (gates > 0).double().mean().item() == pytest.approx(0.9, abs=0.01)
    assert ((gates == 0) | (gates == 1)).double().mean() > 0.5
    one, other = (method.gates(state, at(0), Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, other)


def test_gates_carry_a_gradient_to_log_alpha_where_they_are_between():
    method = hc.HardConcrete()
    _, state, generator = started(method, hc.Budget(neurons=30))
    gates = method.gates(state, at(0), generator)
    gates.sum().backward()
    between = (gates > 0) & (gates < 1)
    assert between.any()
    assert torch.equal(state.log_alpha.grad > 0, between)


@pytest.mark.parametrize("settle", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("pressure", [hc.Lagrangian(), hc.L0Penalty()], ids=repr)
def test_in_the_last_part_of_the_run_the_gates_are_the_keep(pressure, settle):
    made = hc.HardConcrete(pressure=pressure, settle=settle)
    _, state, generator = started(made, hc.Budget(heads=5))
    keep = state.quota.keep(made.scores(state)).double()
    hard = [torch.equal(made.gates(state, at(i, 20), generator), keep) for i in range(20)]
    assert hard == [False] * round(20 * (1 - settle)) + [True] * round(20 * settle)


@pytest.mark.parametrize("method", [hc.HardConcrete(), PENALTY], ids=lambda method: method.name)
def test_log_alpha_rests_once_the_gates_have_settled(method):
    """Also under an optimizer with momentum; and the decision is what the weights trained with."""
    model = bert().train()
    with hc.attach(model, method, hc.Budget(heads=5), num_steps=10) as session:
        optimizer = torch.optim.AdamW(
            [{"params": model.parameters()}, {"params": session.parameters(), "lr": 0.1}]
        )
        seen = []
        for _ in range(10):
            loss = model(**batch(), labels=torch.tensor([0, 1, 2])).loss + session.penalty()
            seen.append((session.scores().clone(), session.gates.value))
            loss.backward()
            session.clip_grad()
            optimizer.step()
            optimizer.zero_grad()
            session.step()
        scores = [scores for scores, _ in seen] + [session.scores()]
        moves = [not torch.equal(a, b) for a, b in pairwise(scores)]
        assert moves == [True] * 8 + [False] * 2
        assert torch.equal(seen[-1][1], session.keep().float())


def test_the_lagrangian_counts_what_the_quota_counts():
    """A quota in which the first unit weighs as much as all others together."""

    class Weighted:
        target = 6.0

        whole = 22.0

        def expected(self, chances):
            return chances[0] * (len(chances) - 1) + chances[1:].sum()

    method = hc.HardConcrete(openness=0.5)
    quota, state, _ = started(method, hc.Budget(heads=3))
    state.quota = Weighted()
    numbers = method.metrics(state, at(79))
    assert numbers["target"] == pytest.approx(6.0)
    assert numbers["expected"] == pytest.approx(0.5 * 22, abs=0.1)
    method.penalty(state, at(79), Evidence()).backward()
    grads = state.log_alpha.grad
    assert (grads[0] / grads[1:]).tolist() == pytest.approx([11] * 11, rel=0.05)
    assert len(quota.units) == 12


def test_decided_gates_are_those_that_are_exact_without_noise():
    method = hc.HardConcrete()
    _, state, _ = started(method, hc.Budget(heads=3))
    with torch.no_grad():
        state.log_alpha.copy_(torch.tensor([-9.0] * 3 + [0.0] * 6 + [9.0] * 3))
    assert method.metrics(state, at(0))["decided"] == 0.5


@pytest.mark.parametrize("method", [hc.HardConcrete(), PENALTY], ids=lambda method: method.name)
def test_every_number_of_a_budget_has_a_pressure_of_its_own(method):
    model, budget = llama(), hc.Budget(sublayers={"self": 2}, heads=8, neurons=20)
    with hc.attach(model, method, budget, num_steps=10) as session:
        session.num_done = 5
        session.penalty().backward()
        assert all(p.grad is not None for p in session.parameters())
        names = {name.split("_", 1)[0] for name in session.metrics()}
        assert names == {"sublayer", "head", "neuron"}
        session.num_done = 8
        model.train()
        model(**batch())
        whole = session.gates.value.split([len(quota.units) for quota in session.quotas])
        assert [gates.sum().item() for gates in whole] == [2, 8, 20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, r"HardConcrete\(temperature=0.0\): give a positive number"),
        ({"learning_rate": float("inf")}, r"HardConcrete\(learning_rate=inf\): give a positive"),
        ({"openness": 1.0}, r"HardConcrete\(openness=1.0\): give a probability between 0 and 1"),
        ({"settle": 1.0}, r"HardConcrete\(settle=1.0\): give a share of the run, 0 <= settle < 1"),
        ({"settle": -0.1}, r"HardConcrete\(settle=-0.1\)"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(hc.BudgetError, match=message):
        hc.HardConcrete(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hc.L0Penalty(weight=0.0), r"L0Penalty\(weight=0.0\): give a positive number"),
        (lambda: hc.Lagrangian(warmup=1.1), r"Lagrangian\(warmup=1.1\): give a share of the run"),
        (lambda: hc.Lagrangian(stiffness=-1.0), r"Lagrangian\(stiffness=-1.0\): give 0 or more"),
    ],
)
def test_pressures_out_of_range_are_refused(make, message):
    with pytest.raises(hc.BudgetError, match=message):
        make()


def test_names_and_what_is_trained_from_where():
    assert (hc.HardConcrete().name, PENALTY.name) == ("hard-concrete", "hard-concrete-penalty")
    assert hc.HardConcrete().trains == "weights and logits"
    assert not hc.HardConcrete().rests
    assert hc.HardConcrete(learning_rate=0.3).optimizer_group == {"lr": 0.3}


def test_a_class_is_no_instance():
    with pytest.raises(
        hc.ArgumentError, match=r"HardConcrete\(pressure=L0Penalty\): a class is no Pr"
    ):
        hc.HardConcrete(pressure=hc.L0Penalty)
