from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import transformers

import headcount as hc
from cases import LOOKING, batch, bert, llama, with_cross_attention
from headcount.gates.attach import has_gates
from headcount.methods.fixed import FixedMethod, FixedState
from headcount.methods.method import Phase, Step
from headcount.zoo.tiny import tiny_model


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity(FixedMethod):
    """The sum of absolute gate gradients: a method that looks at data."""

    phase: ClassVar[Phase] = "from data"
    evidence: ClassVar[frozenset[str]] = frozenset({"gate_grads"})

    @property
    def name(self):
        return "sensitivity"

    def init(self, quota, generator):
        return FixedState(torch.zeros(len(quota.units), dtype=torch.float64), quota)

    def gates(self, state, step, generator):
        return torch.ones_like(state.get_buffer("scores"))

    def observe(self, state, evidence):
        state.get_buffer("scores").add_(evidence.gate_grads.abs().sum(0))


class Widened(transformers.BertForSequenceClassification):
    """A classifier that is handed something else first."""

    def forward(self, patches=None, **inputs):
        return super().forward(**inputs)


def labelled():
    return {**batch(), "labels": torch.tensor([0, 1, 2])}


def test_random_keeps_are_reproducible_and_differ_by_seed():
    keeps = [hc.decide(bert(), hc.Random(seed=seed), hc.Budget(heads=6)) for seed in (1, 1, 2)]
    assert keeps[0] == keeps[1]
    assert [site.keep for site in keeps[0].sites] != [site.keep for site in keeps[2].sites]


def test_a_seed_of_its_own_draws_anew_for_every_pool():
    model, budget = with_cross_attention(), hc.Budget(heads={"encoder": 6, "decoder": 12})
    own = hc.decide(model, hc.Random(seed=1), budget, seed=5)
    assert own.sites == hc.decide(model, hc.Random(), budget, seed=1).sites
    encoder, decoder = (
        [score for site in own.sites if site.stack == stack for score in site.scores]
        for stack in ("encoder", "decoder")
    )
    assert encoder != decoder[: len(encoder)]


def test_every_unit_is_kept_by_some_random_draw():
    kept = torch.zeros(12, dtype=torch.bool)
    model = bert()
    for seed in range(30):
        decision = hc.decide(model, hc.Random(seed=seed), hc.Budget(heads=3))
        kept |= decision.keep(hc.units(model, "head"))
    assert kept.all()


def test_magnitude_keeps_the_heads_of_the_largest_weights():
    model = bert()
    with torch.no_grad():
        for layer, head in ((0, 3), (2, 1)):
            attention = model.bert.encoder.layer[layer].attention
            attention.self.value.weight[head * 6 : head * 6 + 6] *= 9
    decision = hc.decide(model, hc.Magnitude(), hc.Budget(heads=2))
    keep = decision.keep(hc.units(model, "head"))
    assert keep.nonzero().flatten().tolist() == [3, 9]


def test_magnitude_keeps_what_is_largest_of_every_kind():
    """A neuron of the second layer, the attention of the third, and the third for its sake."""
    model = llama()
    layers = model.model.layers
    with torch.no_grad():
        layers[1].mlp.up_proj.weight[5] *= 9
        layers[2].self_attn.o_proj.weight *= 9
    for budget, expected in (
        (hc.Budget(neurons=1), ("model.layers.1.mlp", "neuron", 5)),
        (hc.Budget(sublayers={"self": 1}), ("model.layers.2.self_attn", "sublayer", 0)),
        (hc.Budget(layers=1), ("model.layers.2", "layer", 0)),
    ):
        decision = hc.decide(model, hc.Magnitude(), budget)
        assert [(*site.key, i) for site in decision.sites for i in site.kept] == [expected]


def test_magnitude_keeps_the_group_of_the_largest_weights():
    model = llama()
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight[4:8] *= 9
    decision = hc.decide(model, hc.Magnitude(), hc.Budget(kv_heads=1))
    assert [site.kept for site in decision.sites] == [(1,), (), ()]


def test_a_method_that_looks_at_data_gets_the_gradient_of_each_example():
    model = bert().double()
    together = hc.decide(model, Sensitivity(), hc.Budget(heads=5), [labelled()])
    alone = [{k: v[i : i + 1] for k, v in labelled().items()} for i in range(3)]
    apart = hc.decide(model, Sensitivity(), hc.Budget(heads=5), alone)
    for one, other in zip(together.sites, apart.sites, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-10)
    assert min(score for site in together.sites for score in site.scores) > 0


def test_every_kind_gets_its_own_gradients():
    """The scores of a kind do not depend on which other kinds the budget is about."""
    model = bert().double()
    together = hc.decide(model, Sensitivity(), hc.Budget(heads=5, neurons=9), [labelled()])
    alone = [
        hc.decide(model, Sensitivity(), budget, [labelled()])
        for budget in (hc.Budget(heads=5), hc.Budget(neurons=9))
    ]
    apart = [site for decision in alone for site in decision.sites]
    assert [site.key for site in together.sites] == [site.key for site in apart]
    for one, other in zip(together.sites, apart, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-12)
        assert one.keep == other.keep


def test_a_head_with_a_zero_output_slice_has_no_gradient():
    model = bert()
    with torch.no_grad():
        model.bert.encoder.layer[1].attention.output.dense.weight[:, 6:12] = 0
    decision = hc.decide(model, Sensitivity(), hc.Budget(heads=5), [labelled()])
    assert decision.sites[1].scores[1] == 0


def test_a_method_that_looks_at_data_needs_batches():
    with pytest.raises(hc.TrainingError, match=r"looks at data. Give batches"):
        hc.decide(bert(), Sensitivity(), hc.Budget(heads=5))


@pytest.mark.parametrize("method", LOOKING, ids=lambda method: method.name)
def test_a_method_that_looks_at_data_cannot_be_attached(method):
    with pytest.raises(hc.TrainingError, match=r"looks at data before it scores. Use decide"):
        hc.attach(bert(), method, hc.Budget(heads=5), num_steps=1)


BUDGETS = (
    (hc.Budget(heads=0), {"head": 0}),
    (hc.Budget(heads=7, min_per_layer=2), {"head": 7}),
    (hc.Budget(heads=1, scope="layer"), {"head": 3}),
    (hc.Budget(heads=5, neurons=30), {"head": 5, "neuron": 30}),
    (hc.Budget(sublayers={"self": 1, "ffn": 2}, heads=3), {"sublayer": 3, "head": 3}),
    (hc.Budget(layers=2, heads=5, neurons=9), {"layer": 2, "head": 5, "neuron": 9}),
    (hc.Budget(layers=1, sublayers=1), {"layer": 1, "sublayer": 1}),
)


@pytest.mark.parametrize(("budget", "counts"), BUDGETS, ids=[repr(b) for b, _ in BUDGETS])
@pytest.mark.parametrize("method", LOOKING, ids=lambda method: method.name)
def test_methods_that_look_at_data_keep_every_kind_exactly(method, budget, counts):
    model = bert()
    decision = hc.decide(model, method, budget, [labelled()])
    assert {kind: decision.num(kind) for kind in decision.kinds} == counts
    assert min(decision.kept_per_layer) >= budget.min_per_layer
    small = hc.units(hc.cut(model, decision))
    assert {kind: small.num(kind) for kind in counts} == counts


@pytest.mark.parametrize("fields", [{"heads": 12}, {"heads": 4, "scope": "layer"}, {"kv_heads": 5}])
@pytest.mark.parametrize("method", LOOKING, ids=lambda method: method.name)
def test_methods_that_look_at_data_respect_shared_key_value_heads(method, fields):
    model, inputs = llama(), batch()
    batches = [{**inputs, "labels": inputs["input_ids"]}]
    decision = hc.decide(model, method, hc.Budget(**fields), batches)
    assert decision.num_kept == (5 if "kv_heads" in fields else 12)
    small = hc.units(hc.cut(model, decision))
    assert small.num("head") == (10 if "kv_heads" in fields else 12)


@pytest.mark.parametrize("make", [list, iter, lambda batches: (b for b in batches)])
def test_batches_may_be_an_iterator(make):
    """It is gone through once for each of nine rounds."""
    model, batches = bert(), [labelled(), labelled()]
    budget, method = hc.Budget(heads=3), hc.GradientImportance(share=1 / 12)
    steps = []
    decision = hc.decide(model, method, budget, make(batches), progress=steps.append)
    assert decision == hc.decide(model, method, budget, batches)
    assert steps == [Step(index=done, total=9) for done in range(1, 10)]
    assert decision.provenance["steps"] == decision.provenance["num_steps"] == 9


class Once:
    """Batches that can be gone through once, and do not say so."""

    def __init__(self, batches):
        self.left = list(batches)

    def __iter__(self):
        while self.left:
            yield self.left.pop()


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], r"there are no batches in round 1 of 4. Give a list"),
        (Once([labelled()]), r"there are no batches in round 2 of 4. Give a list"),
        (
            [batch()],
            r"gives no loss for a batch of \['attention_mask', 'input_ids'\]. Give batches",
        ),
        ([{"return_dict": True}], r"a batch has no tensor with examples, only \['return"),
        (
            [{"labels": torch.tensor(1)}],
            r"only numbers for \['labels'\]. Give batches as the model",
        ),
    ],
)
def test_batches_that_say_nothing_are_refused_and_the_model_is_as_before(batches, message):
    model = bert().train()
    model.dropout.eval()  # a part of a model may be in another mode than the whole
    modes = [module.training for module in model.modules()]
    with pytest.raises(
        hc.TrainingError, match=r"decide\(method=GradientImportance\): .*" + message
    ):
        hc.decide(model, hc.GradientImportance(), hc.Budget(heads=5), batches)
    assert [module.training for module in model.modules()] == modes
    assert not has_gates(model)


def test_a_model_without_a_loss_is_refused():
    with pytest.raises(hc.TrainingError, match=r"BertModel gives no loss .* with the task's head"):
        hc.decide(bert().bert, hc.GradientImportance(), hc.Budget(heads=5), [batch()])


def test_dropout_is_off_while_the_data_are_looked_at():
    config = bert().config
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.5
    model = transformers.BertForSequenceClassification(config)
    found = [
        hc.decide(made, hc.GradientImportance(), hc.Budget(heads=5), [labelled()])
        for made in (model.train(), model.eval())
    ]
    assert found[0] == found[1]


def test_tokens_one_below_the_other_have_the_gates_of_their_example():
    """OPT's feed-forward networks see [B * T, D]."""
    model = tiny_model("opt").double().eval()
    ids = torch.randint(5, 30, (3, 6))
    together = [{"input_ids": ids, "labels": ids}]
    apart = [{"input_ids": row, "labels": row} for row in ids.split(1)]
    whole, single = (
        hc.decide(model, Sensitivity(), hc.Budget(neurons=9), batches)
        for batches in (together, apart)
    )
    for one, other in zip(whole.sites, single.sites, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-10)


def test_the_examples_are_counted_by_labels_or_tokens():
    """Some models have the patches of all images in one tensor, which may come first."""
    model = Widened(bert().config).double().eval()
    given = {"patches": torch.zeros(1, 7, 2), **labelled()}
    plain = hc.decide(model, Sensitivity(), hc.Budget(heads=5), [labelled()])
    found = hc.decide(model, Sensitivity(), hc.Budget(heads=5), [given])
    assert [site.scores for site in found.sites] == [site.scores for site in plain.sites]


def test_choices_side_by_side_are_looked_at_one_example_at_a_time():
    """Four sequences an example: a batch of one has one row of gates for all of them."""
    model = transformers.BertForMultipleChoice(bert().config).double().eval()
    ids = torch.randint(5, 40, (2, 4, 6))
    both = {"input_ids": ids, "labels": torch.tensor([1, 3])}
    with pytest.raises(hc.PruningError, match=r"2 examples, .* it to 8 rows .* batches of one"):
        hc.decide(model, Sensitivity(), hc.Budget(heads=5), [both])
    assert not has_gates(model)
    alone = [{name: value[i : i + 1] for name, value in both.items()} for i in range(2)]
    decision = hc.decide(model, Sensitivity(), hc.Budget(heads=5), alone)
    assert min(score for site in decision.sites for score in site.scores) > 0


def test_gradients_are_taken_where_they_are_switched_off():
    budget, model = hc.Budget(heads=5), bert()
    decision = hc.decide(model, hc.GradientImportance(), budget, [labelled()])
    with torch.no_grad():
        same = hc.decide(model, hc.GradientImportance(), budget, [labelled()])
    assert same == decision


def test_a_loss_that_is_not_finite_is_named():
    model = bert()
    with torch.no_grad():
        model.classifier.weight.fill_(float("nan"))
    with pytest.raises(hc.TrainingError, match="the loss of batch 1 is not a finite number"):
        hc.decide(model, hc.GradientImportance(), hc.Budget(heads=5), [labelled()])


def test_a_method_that_learns_is_refused():
    with pytest.raises(hc.TrainingError, match=r"learns its scores by training. Use Pruning"):
        hc.decide(bert(), hc.DSP(), hc.Budget(heads=5))


def test_deciding_leaves_the_model_alone():
    model = bert().train()
    model.dropout.eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hc.decide(model, Sensitivity(), hc.Budget(heads=5), [labelled()])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"method": "magnitude"},
            r"decide\(method='magnitude'\): a str is no Method\. Give an inst",
        ),
        ({"method": hc.Magnitude}, r"decide\(method=Magnitude\): a class is no Method\."),
        (
            {"budget": 4},
            r"decide\(budget=4\): an int is no Budget\. Give .* hc\.Budget\(heads=12\)",
        ),
        ({"batches": batch()}, r"decide\(batches=dict\): this is one batch\. Give a list"),
        ({"model": "bert-base-uncased"}, r"decide\(model='bert-base-uncased'\): a str is no Mod"),
    ],
)
def test_something_of_the_wrong_type_is_refused_with_the_right_one(given, message):
    call = {"model": bert(), "method": hc.Magnitude(), "budget": hc.Budget(heads=5), **given}
    with pytest.raises(hc.ArgumentError, match=message):
        hc.decide(**call)


class TestNumbersThatAreNone:
    """A decision by them would keep the first heads, whatever the method."""

    @pytest.mark.parametrize("method", LOOKING[::3], ids=repr)
    @pytest.mark.parametrize("at", [1, 2])
    def test_labels_that_the_loss_leaves_out(self, method, at):
        bad = {**batch(), "labels": torch.full((3,), -100)}
        batches = [labelled(), labelled()]
        batches[at - 1] = bad
        message = rf"the loss of batch {at} is not a finite number\. All of its labels are -100"
        with pytest.raises(hc.TrainingError, match=message):
            hc.decide(bert(), method, hc.Budget(heads=6), batches)
        with pytest.raises(hc.TrainingError, match=message):
            hc.prune_post_training(bert(), method, hc.Budget(heads=6), batches)

    def test_labels_of_tokens_that_are_left_out(self):
        model = llama()
        good = {**batch(), "labels": batch()["input_ids"]}
        bad = {**batch(), "labels": torch.full((3, 7), -100)}
        with pytest.raises(hc.TrainingError, match=r"batch 2 .* labels are -100.*leave the batch"):
            hc.decide(model, hc.Fisher(), hc.Budget(kv_heads=3), [good, bad])

    def test_weights(self):
        model = bert()
        with torch.no_grad():
            model.classifier.weight[0] = torch.inf
        with pytest.raises(hc.TrainingError, match=r"batch 1 is not a finite .* in float32"):
            hc.decide(model, hc.Fisher(), hc.Budget(heads=6), [labelled()])

    def test_gradients(self, monkeypatch):
        def endless(loss, gates):
            return (torch.full_like(gates, torch.inf),)

        monkeypatch.setattr(torch.autograd, "grad", endless)
        with pytest.raises(hc.TrainingError, match=r"a gradient of batch 1 is not a finite number"):
            hc.decide(bert(), hc.Fisher(), hc.Budget(heads=6), [labelled()])
