"""What each collector takes, against the same thing written out, and when it takes nothing."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import headcount as hc
from cases import batch, bert, llama, with_cross_attention
from headcount.evidence.attention_maps import AttentionMaps
from headcount.evidence.collector import Call
from headcount.evidence.evidence import Evidence
from headcount.evidence.output_norms import OutputNorms
from headcount.evidence.watch import COLLECTORS, Watch
from headcount.methods.fixed import FixedMethod, FixedState
from headcount.methods.method import Method, Phase, State
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.tiny import tiny_model


@dataclass(frozen=True, kw_only=True, slots=True)
class Watching(Method[State]):
    """Trains with all units and remembers all that it is shown."""

    evidence: ClassVar[frozenset[str]] = frozenset({"output_norms", "outputs", "whole_outputs"})

    @property
    def name(self):
        return "watching"

    def init(self, quota, generator):
        state = State(quota)
        state.seen = []
        return state

    def observe(self, state, evidence):
        state.seen.append(evidence)

    def gates(self, state, step, generator):
        return torch.full((len(state.units),), 0.5)

    def penalty(self, state, step, evidence):
        return evidence.output_norms.sum()

    def scores(self, state):
        return torch.zeros(len(state.units))


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanMap(FixedMethod):
    """Heads by how much they attend to the first token: data without labels."""

    phase: ClassVar[Phase] = "from data"
    evidence: ClassVar[frozenset[str]] = frozenset({"attention_maps"})

    @property
    def name(self):
        return "mean-map"

    def init(self, quota, generator):
        return FixedState(torch.zeros(len(quota.units), dtype=torch.float64), quota)

    def observe(self, state, evidence):
        state.get_buffer("scores").add_(evidence.attention_maps[:, :, 0].mean((0, 1)))

    def gates(self, state, step, generator):
        return torch.ones(len(state.units))


def checkpointing(model, *, reentrant):
    """Layers run again in the backward pass; the method has another name in newer versions."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": reentrant})


def norms_of(model, kind, inputs):
    units = hc.units(model, kind)
    collector = OutputNorms(model, units)
    collector.begin(Call(model, (), inputs))
    norms = collector.end(model(**inputs))
    collector.remove()
    return norms


def written_out(model, kind, inputs):
    """The same with the output of each unit in full: all others' shares of the input are zero."""
    found, seen = [], {}

    def keep(name):
        return lambda module, args, output: seen.update({name: (args[0], output)})

    units = hc.units(model, kind)
    for site in units.sites:
        model.get_submodule(site.gate).register_forward_hook(keep(site.gate))
    model(**inputs)
    mask = inputs.get("attention_mask")
    for site in units.sites:
        x, y = seen[site.gate]
        valid = torch.ones(y.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        if kind == "sublayer":
            adds = [y]
        else:
            module = model.get_submodule(site.gate)
            nothing = module(torch.zeros_like(x))
            shares = torch.eye(site.num_units, dtype=x.dtype).repeat_interleave(site.width or 1, 1)
            adds = [module(x * share) - nothing for share in shares]
        found += [one.norm(dim=-1)[valid].mean() / one.shape[-1] ** 0.5 for one in adds]
    return torch.stack(found)


@pytest.mark.parametrize("kind", ["head", "neuron", "sublayer"])
@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_output_norms_are_those_of_what_each_unit_adds(family, kind):
    """BERT has biases, Llama gated networks and shared keys, GPT-2 transposed weights."""
    model = tiny_model(family).double().eval()
    ids = torch.randint(5, 30, (2, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    for inputs in ({"input_ids": ids}, {"input_ids": ids, "attention_mask": mask}):
        found = norms_of(model, kind, inputs)
        torch.testing.assert_close(found, written_out(model, kind, inputs), atol=1e-12, rtol=1e-10)


def test_output_norms_do_not_depend_on_the_order_of_examples_or_on_padding():
    model = bert().double().eval()
    ids = torch.tensor([[5, 6, 7], [8, 9, 4]])
    plain = norms_of(model, "sublayer", {"input_ids": ids, "attention_mask": torch.ones(2, 3)})
    padded = torch.cat([ids.flip(0), torch.zeros(2, 2, dtype=torch.long)], 1)
    mask = torch.tensor([[1, 1, 1, 0, 0]] * 2)
    other = norms_of(model, "sublayer", {"input_ids": padded, "attention_mask": mask})
    torch.testing.assert_close(plain, other, atol=1e-10, rtol=0)


def test_a_mask_given_by_position_counts_and_one_of_another_shape_is_refused():
    model = bert().double().eval()
    ids = torch.tensor([[5, 6, 7, 0, 0]] * 2)
    mask = torch.tensor([[1, 1, 1, 0, 0]] * 2)
    named = norms_of(model, "sublayer", {"input_ids": ids, "attention_mask": mask})
    collector = OutputNorms(model, hc.units(model, "sublayer"))
    collector.begin(Call(model, (ids, mask), {}))
    assert torch.equal(collector.end(model(ids, mask)), named)
    assert not torch.equal(norms_of(model, "sublayer", {"input_ids": ids}), named)
    collector.begin(Call(model, (ids, mask[:, 1:]), {}))
    output = model(ids, mask)
    with pytest.raises(hc.ArchitectureError, match=r"padding and is of shape \(2, 4\), .* \(2, 5"):
        collector.end(output)
    whole = torch.ones(2, 4)  # nothing is padding, so its shape does not matter
    collector.begin(Call(model, (ids, whole), {}))
    assert torch.isfinite(collector.end(model(ids))).all()


@pytest.mark.parametrize("kind", ["head", "neuron"])
def test_a_module_that_layers_share_gives_the_mean_over_its_calls(kind):
    """ALBERT runs one layer again and again."""
    model = tiny_model("albert").double().eval()
    inputs, norms = dummy_inputs(model, seed=0), []
    (site, *_) = hc.units(model, kind).sites
    part = next(p for p in site.parts if p.role in ("output", "down") and p.name == "weight")
    module = model.get_submodule(site.gate)

    def note(_, args):
        slices = (
            args[0].unflatten(-1, (site.num_units, -1)),
            module.weight.unflatten(part.dim, (site.num_units, -1)),
        )
        adds = torch.einsum("bthd,ohd->btho", *slices)
        norms.append(adds.norm(dim=-1).mean((0, 1)) / adds.shape[-1] ** 0.5)

    module.register_forward_pre_hook(note)
    inputs.pop("attention_mask", None)
    found = norms_of(model, kind, inputs)[: site.num_units]
    assert len(norms) > 1
    torch.testing.assert_close(found, torch.stack(norms).mean(0), atol=1e-12, rtol=1e-9)


def test_a_pass_without_gradients_may_be_checkpointed():
    """As the first pass of GradCache; only norms that should have a gradient need one."""
    model = bert().train()
    checkpointing(model, reentrant=False)
    with hc.attach(model, Watching(), hc.Budget(sublayers=4), num_steps=1) as session:
        with torch.no_grad():
            model(**batch())
        assert not session.states[0].seen[-1].output_norms.requires_grad
        model(**batch())
        assert session.states[0].seen[-1].output_norms.requires_grad


def test_the_norm_of_a_unit_that_adds_nothing_is_zero_and_has_a_finite_gradient():
    model = bert().eval()
    dense = model.bert.encoder.layer[0].attention.output.dense
    with torch.no_grad():
        dense.weight[:, :6] = 0
    norms = norms_of(model, "head", batch())
    assert norms[0] == 0
    assert (norms[1:] > 0).all()
    norms.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_attention_maps_are_those_of_the_eager_model():
    model = bert().eval()
    inputs = {**batch(), "attention_mask": torch.tensor([[1] * batch()["input_ids"].shape[1]] * 3)}
    before = model.config._attn_implementation
    watch = Watch(model, hc.units(model, "head"), frozenset({"attention_maps"}))
    maps = watch.before(Call(model, (), inputs))["attention_maps"]
    assert model.config._attn_implementation == before
    watch.remove()
    model.set_attn_implementation("eager")
    layers = model(**inputs, output_attentions=True).attentions
    wanted = torch.cat([layer.permute(0, 2, 3, 1) for layer in layers], -1)
    torch.testing.assert_close(maps, wanted)


def test_maps_of_an_encoder_and_a_decoder_have_zeros_behind_the_smaller():
    model = tiny_model("t5").eval()
    inputs = dummy_inputs(model, seed=0)
    inputs["decoder_input_ids"] = inputs["decoder_input_ids"][:, :3]
    units = hc.units(model, "head")
    watch = Watch(model, units, frozenset({"attention_maps"}))
    maps = watch.before(Call(model, (), inputs))["attention_maps"]
    watch.remove()
    tokens = inputs["input_ids"].shape[1]
    assert maps.shape == (len(inputs["input_ids"]), tokens, tokens, len(units))
    for site, span in zip(units.sites, units.slices, strict=True):
        queries = 3 if site.stack == "decoder" else tokens
        keys = tokens if site.branch == "cross" or site.stack == "encoder" else 3
        sums = maps[:, :queries, :keys, span].sum(2)
        torch.testing.assert_close(sums, torch.ones_like(sums))
        assert maps[..., span].sum() == pytest.approx(float(sums.sum()), rel=1e-5)


def test_a_session_takes_evidence_in_training_only_and_changes_no_output():
    model, inputs = bert().eval(), batch()
    whole = model(**inputs).logits
    with hc.attach(model, Watching(), hc.Budget(sublayers=4), num_steps=2) as session:
        (state,) = session.states
        model(**inputs)
        assert not state.seen  # evaluation
        model.train()
        gated = model(**inputs)
        first, second = state.seen
        assert torch.equal(first.whole_outputs.logits, whole)
        assert first.outputs is second.whole_outputs is None
        assert torch.equal(second.outputs.logits, gated.logits)
        assert not torch.allclose(gated.logits, whole)
        with session.held(torch.ones(len(session.units))):
            model(**inputs)
        assert len(state.seen) == 2  # gates from outside
        assert session.penalty() > 0
        session.step()
    model(**inputs)
    assert len(state.seen) == 2


def test_norms_in_checkpointed_layers_have_the_same_gradients():
    """Layers run again in the backward pass; their norms are not taken a second time."""
    grads = []
    for checkpointed in (False, True):
        torch.manual_seed(0)  # of the weights and of dropout
        model = bert()
        if checkpointed:
            checkpointing(model, reentrant=False)
        with hc.attach(model, Watching(), hc.Budget(sublayers=4), num_steps=1) as session:
            model.train()
            loss = model(**batch(), labels=torch.tensor([0, 1, 2])).loss + session.penalty()
            loss.backward()
            grads.append({name: p.grad.clone() for name, p in model.named_parameters()})
            assert len(session.states[0].seen) == 2
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore:Dynamo")
def test_evidence_of_a_compiled_model_is_that_of_any():
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = bert().double().train()
        with hc.attach(model, Watching(), hc.Budget(sublayers=4), num_steps=1) as session:
            running = torch.compile(model, backend="aot_eager") if compiled else model
            torch.manual_seed(1)  # of dropout
            loss = running(**batch(), labels=torch.tensor([0, 1, 2])).loss + session.penalty()
            loss.backward()
            seen = [each.output_norms for each in session.states[0].seen]
            found.append((loss, seen[-1], model.classifier.weight.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_checkpointing_that_leaves_norms_without_a_gradient_is_refused():
    model = bert()
    checkpointing(model, reentrant=True)
    with hc.attach(model, Watching(), hc.Budget(sublayers=4), num_steps=1) as session:
        model.train()
        with pytest.raises(hc.TrainingError, match=r"use_reentrant=True.* have no gradient"):
            model(**batch())
        assert session.gates.attached


def test_a_failing_pass_leaves_the_attention_and_the_next_pass_alone():
    model = bert().train()
    before = model.config._attn_implementation
    units = hc.units(model, "head")
    watch = Watch(model, units, frozenset({"attention_maps", "outputs"}))
    with pytest.raises(ValueError, match="input_ids"):
        watch.before(Call(model, (), {"nonsense": 1}))
    assert model.config._attn_implementation == before
    assert model.training
    assert watch.before(Call(model, (), batch()))["attention_maps"].shape[-1] == 12
    assert watch.after(None) == {}
    watch.remove()


def test_a_method_may_look_at_data_without_labels():
    model = bert().train()
    decision = hc.decide(model, MeanMap(), hc.Budget(heads=5), [batch()])
    assert decision.num_kept == 5
    scores = [score for site in decision.sites for score in site.scores]
    assert min(scores) > 0
    assert model.training


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"attention_maps"}, "neuron", "neurons have no attention maps"),
        ({"output_norms"}, "layer", "the contribution of the layers of .* cannot be separated"),
    ],
)
def test_evidence_that_cannot_be_had_is_refused(fields, kind, message):
    model = bert()
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    with pytest.raises(hc.ArchitectureError, match=message):
        Watch(model, hc.units(model, kind), frozenset({*fields, "outputs"}))
    after = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    assert after == hooks


@pytest.mark.parametrize(
    ("phase", "fields", "message"),
    [
        ("in training", {"dreams"}, r"evidence names 'dreams', which nothing collects. Name some"),
        ("in training", {"gate_grads"}, r"taken each batch: .* chooses in training never sees"),
        (
            "at once",
            {"outputs"},
            r"taken after a pass: .* Give another phase \(from data, in",
        ),
        ("some day", set(), r"Other.phase='some day': give one of at once, from data"),
    ],
)
def test_evidence_that_a_method_would_never_see_is_refused(phase, fields, message):
    class Other(Watching):
        pass

    Other.phase, Other.evidence = phase, frozenset(fields)
    with pytest.raises(hc.TrainingError, match=message):
        hc.attach(bert(), Other(), hc.Budget(sublayers=4), num_steps=1)


def test_a_penalty_without_a_pass_is_refused_and_so_is_unknown_evidence():
    model = bert().train()
    with hc.attach(model, Watching(), hc.Budget(sublayers=4), num_steps=2) as session:
        with pytest.raises(hc.TrainingError, match=r"needs output_norms of a forward pass"):
            session.penalty()
        model(**batch())
        assert session.penalty() > 0
        session.step()
        with pytest.raises(hc.TrainingError, match=r"once for each penalty"):
            session.penalty()
        with pytest.raises(hc.TrainingError, match=r"observe\(dreams=...\): no such evidence"):
            session.observe(dreams=torch.ones(1))


def test_attention_that_hands_out_no_maps_is_refused(monkeypatch):
    model = llama().eval()
    collector = AttentionMaps(model, hc.units(model, "head"))
    collector.begin(Call(model, (), {}))
    with pytest.raises(hc.ArchitectureError, match=r"self_attn \(3 in all\) returns no"):
        collector.end(object())


def test_part_of_a_model_that_was_not_called_is_refused():
    model = with_cross_attention().eval()
    collector = OutputNorms(model, hc.units(model, "sublayer"))
    collector.begin(Call(model, (), {}))
    with pytest.raises(hc.ArchitectureError, match="was not called in this pass"):
        collector.end(object())


def test_every_field_of_evidence_has_a_collector():
    assert {*COLLECTORS} == {*Evidence.__dataclass_fields__}
