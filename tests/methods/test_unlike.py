"""Two methods most unlike the others fit the interface: the proof, not the methods themselves.

One is a network that looks at attention maps and is trained on the frozen model; the other puts a
penalty on the norms of residual modules while the model trains. Neither has an own way to gates,
state, budget or decision.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn.functional import kl_div, log_softmax

import headcount as hc
from cases import batch, bert
from headcount.methods.method import Method, State


class Looking(State):
    """A small network from one map to one score, shared by all heads, and its last scores."""

    def __init__(self, quota):
        super().__init__(quota)
        num_units = len(quota.units)
        self.network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
        self.register_buffer("seen", torch.zeros(num_units))
        self.last = torch.zeros(num_units)


@dataclass(frozen=True, kw_only=True, slots=True)
class MapReader(Method):
    """Scores heads by their attention maps alone, so before any fine-tuning."""

    evidence: ClassVar[frozenset[str]] = frozenset({"attention_maps"})

    @property
    def name(self):
        return "map-reader"

    @property
    def trains(self) -> Literal["logits"]:
        return "logits"

    def init(self, quota, generator):
        torch.manual_seed(generator.initial_seed())
        return Looking(quota)

    def observe(self, state, evidence):
        maps = evidence.attention_maps
        stacked = maps.permute(0, 3, 1, 2).flatten(0, 1)[:, None]
        scores = state.network(stacked).mean((1, 2, 3)).view(len(maps), -1).mean(0)
        state.last = scores
        state.seen.lerp_(scores.detach(), 0.5)

    def gates(self, state, step, generator):
        noisy = state.last + 0.1 * torch.randn(state.last.shape, generator=generator)
        keep = state.quota.keep(noisy)
        return keep.float() + state.last - state.last.detach()

    def scores(self, state):
        return state.seen


class Norms(State):
    """The norms of the last batch, with their gradient, and their mean over a pass."""

    def __init__(self, quota):
        super().__init__(quota)
        num_units = len(quota.units)
        self.register_buffer("mean", torch.zeros(num_units))
        self.last = torch.zeros(num_units)


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityPrior(Method):
    """Draws residual modules towards adding nothing; those that add least go."""

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
        state.last = evidence.output_norms
        state.mean.lerp_(state.last.detach(), 0.5)

    def penalty(self, state, step, evidence):
        return self.strength * state.last.sum()

    def scores(self, state):
        return state.mean


def maps_of(session, inputs):
    """The maps of all heads of the whole model, [B, T, T, N]."""
    session.model.set_attn_implementation("eager")
    with torch.no_grad(), session.held(torch.ones(len(session.units))):
        output = session.model(**inputs, output_attentions=True)
    return torch.cat([layer.permute(0, 2, 3, 1) for layer in output.attentions], -1), output.logits


def test_a_network_that_reads_attention_maps_is_a_method():
    """Trained on the frozen model to answer as the whole one does, then one decision."""
    model = bert()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with hc.attach(model, MapReader(), hc.Budget(heads=6), num_steps=4) as session:
        optimizer = torch.optim.SGD(session.parameters(), lr=1.0)
        for _ in range(4):
            maps, whole = maps_of(session, batch())
            session.observe(attention_maps=maps)
            with session.held(session.draw()):
                answer = model(**batch()).logits
            loss = kl_div(
                log_softmax(answer, -1),
                log_softmax(whole, -1),
                log_target=True,
                reduction="batchmean",
            )
            loss.backward()
            assert all(parameter.grad.any() for parameter in session.parameters())
            session.clip_grad()
            optimizer.step()
            session.step()
        decision = session.decision()
    assert decision.num_kept == 6
    assert hc.units(hc.cut(model, decision), "head").num("head") == 6
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class NormsOfOutputs:
    """What each module adds, as a forward hook sees it."""

    def __init__(self, session):
        self.values = [torch.zeros(())] * len(session.units)
        for index, site in enumerate(session.units.sites):
            session.model.get_submodule(site.gate).register_forward_hook(self.at(index))

    def at(self, index):
        def hook(module, args, output):
            self.values[index] = output.norm(dim=-1).mean() / output.shape[-1] ** 0.5

        return hook


def train_with_prior(strength):
    """The sum of the norms at the end, and what is decided."""
    torch.manual_seed(0)
    model = bert()
    method, budget = IdentityPrior(strength=strength), hc.Budget(sublayers=4)
    with hc.attach(model, method, budget, num_steps=40) as session:
        norms = NormsOfOutputs(session)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(40):
            model.train()
            loss = model(**batch(), labels=torch.tensor([0, 1, 2])).loss
            session.observe(output_norms=torch.stack(norms.values))
            (loss + session.penalty()).backward()
            optimizer.step()
            optimizer.zero_grad()
            session.step()
        decision = session.decision()
    return sum(norms.values).item(), hc.cut(model, decision)


def test_a_penalty_on_the_norms_of_modules_is_a_method():
    """The penalty has its effect, and exactly so many modules stay."""
    (free, _), (drawn, small) = train_with_prior(0.0), train_with_prior(1.0)
    assert drawn < 0.8 * free
    assert hc.units(small, "sublayer").num("sublayer") == 4
