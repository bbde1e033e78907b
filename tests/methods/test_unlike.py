"""Two methods most unlike the others fit the interface: the proof, not the methods themselves.

One is a network that reads attention maps and is trained on the frozen model to answer as the whole
model does. The other puts a penalty on what sublayers add while the model trains. Both run through
``attach`` and ``PruningTrainer``, and neither touches the model.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
import torch
import transformers
from datasets import Dataset
from torch import nn
from torch.nn.functional import kl_div, log_softmax

import headcount as hc
from cases import batch, bert
from headcount.methods.method import Method, State


class Looking(State):
    """A small network from one map to one score, shared by all heads, and its last scores."""

    def __init__(self, quota):
        super().__init__(quota)
        self.network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
        self.register_buffer("seen", torch.zeros(len(quota.units)))
        self.last = torch.zeros(len(quota.units))


@dataclass(frozen=True, kw_only=True, slots=True)
class MapReader(Method[Looking]):
    """Scores heads by their attention maps alone, so before any fine-tuning."""

    evidence: ClassVar[frozenset[str]] = frozenset({"attention_maps", "whole_outputs", "outputs"})

    @property
    def name(self):
        return "map-reader"

    @property
    def trains(self) -> Literal["logits"]:
        return "logits"

    @property
    def optimizer_group(self):
        return {"lr": 1.0}

    def init(self, quota, generator):
        torch.manual_seed(generator.initial_seed())
        return Looking(quota)

    def observe(self, state, evidence):
        if evidence.attention_maps is None:  # the answers are for the penalty
            return
        maps = evidence.attention_maps
        stacked = maps.permute(0, 3, 1, 2).flatten(0, 1)[:, None]
        state.last = state.network(stacked).mean((1, 2, 3)).view(len(maps), -1).mean(0)
        state.seen.lerp_(state.last.detach(), 0.5)

    def gates(self, state, step, generator):
        noisy = state.last + 0.1 * torch.randn(state.last.shape, generator=generator)
        return state.quota.keep(noisy).float() + state.last - state.last.detach()

    def penalty(self, state, step, evidence):
        """How far the answers of the gated model are from those of the whole one."""
        own, whole = evidence.outputs.logits, evidence.whole_outputs.logits
        both = log_softmax(own, -1), log_softmax(whole, -1)
        return kl_div(*both, log_target=True, reduction="batchmean")

    def scores(self, state):
        return state.seen


class Norms(State):
    """The mean norms of what sublayers add."""

    def __init__(self, quota):
        super().__init__(quota)
        self.register_buffer("mean", torch.zeros(len(quota.units)))


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityPrior(Method[Norms]):
    """Draws sublayers towards adding nothing; those that add least go."""

    evidence: ClassVar[frozenset[str]] = frozenset({"output_norms"})
    strength: float = 1.0

    @property
    def name(self):
        return "identity-prior"

    def init(self, quota, generator):
        return Norms(quota)

    def gates(self, state, step, generator):
        return torch.ones(len(state.mean))

    def observe(self, state, evidence):
        state.mean.lerp_(evidence.output_norms.detach(), 0.5)

    def penalty(self, state, step, evidence):
        return self.strength * evidence.output_norms.sum()

    def scores(self, state):
        return state.mean


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_network_that_reads_attention_maps_trains_in_a_loop_of_ones_own():
    """Only the network learns; then one decision."""
    model = bert()
    before = weights_of(model)
    with hc.attach(model, MapReader(), hc.Budget(heads=6), num_steps=4) as session:
        optimizer = torch.optim.SGD(session.parameters(), lr=1.0)
        model.train()
        for _ in range(4):
            model(**batch())
            loss = session.penalty()
            loss.backward()
            assert loss > 0
            assert all(parameter.grad.any() for parameter in session.parameters())
            session.clip_grad()
            optimizer.step()
            session.step()
        decision = session.decision()
    assert decision.num_kept == 6
    assert hc.units(hc.cut(model, decision), "head").num("head") == 6
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def train_with_prior(strength):
    """What the sublayers add at the end, and what is decided."""
    torch.manual_seed(0)
    model = bert()
    method, budget = IdentityPrior(strength=strength), hc.Budget(sublayers=4)
    with hc.attach(model, method, budget, num_steps=40) as session:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(40):
            model.train()
            loss = model(**batch(), labels=torch.tensor([0, 1, 2])).loss
            (loss + session.penalty()).backward()
            optimizer.step()
            optimizer.zero_grad()
            session.step()
        decision, scores = session.decision(), session.scores()
    return scores.sum().item(), hc.cut(model, decision)


def test_a_penalty_on_what_sublayers_add_trains_in_a_loop_of_ones_own():
    """The penalty has its effect, and exactly so many sublayers stay."""
    (free, _), (drawn, small) = train_with_prior(0.0), train_with_prior(1.0)
    assert drawn < 0.8 * free
    assert hc.units(small, "sublayer").num("sublayer") == 4


@pytest.mark.parametrize(
    ("method", "budget"),
    [(MapReader(), hc.Budget(heads=6)), (IdentityPrior(), hc.Budget(sublayers=4))],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("accumulated", [1, 2])
def test_both_train_in_the_trainer(method, budget, accumulated, tmp_path):
    model = bert()
    before = weights_of(model)
    rows = [{"input_ids": [5 + i, 6, 7], "labels": i % 3} for i in range(8)]
    arguments = transformers.TrainingArguments(
        str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=accumulated,
        report_to=[],
        save_strategy="no",
        learning_rate=1e-2,
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = hc.PruningTrainer(
        model=model,
        method=method,
        budget=budget,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
    )
    start = weights_of(trainer.session.states)
    trainer.train()
    learnt = weights_of(trainer.session.states)
    assert any(not torch.equal(learnt[name], start[name]) for name in start)
    moved = any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert moved == (method.trains == "weights")
    decision = trainer.decision()
    (kind,) = decision.kinds
    assert (
        hc.units(trainer.prune()).num(kind) == decision.num_kept == trainer.session.quotas[0].target
    )
