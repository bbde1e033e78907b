import pytest
import torch
import transformers

import headcount as hc
from cases import METHODS, TINY, batch, bert

LABELS = torch.tensor([0, 1, 2])


def train(model, method, heads, steps, *, seed=0, **limits):
    """One's own loop, as the documentation shows it."""
    session = hc.attach(model, method, hc.Budget(heads=heads, **limits), num_steps=steps, seed=seed)
    groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    groups += [{"params": list(session.parameters()), "lr": 0.5, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=1e-3)
    for _ in range(steps):
        model.train()
        loss = model(**batch(), labels=LABELS).loss + session.penalty()
        loss.backward()
        session.clip_grad()
        optimizer.step()
        optimizer.zero_grad()
        session.step()
    return session


@pytest.mark.parametrize("heads", [0, 1, 5, 12])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_keeps_exactly_what_was_asked(method, heads):
    model = bert()
    with train(model, method, heads, 3) as session:
        decision = session.decision()
    assert decision.num_kept == heads
    assert hc.units(hc.cut(model, decision)).num("head") == heads


@pytest.mark.parametrize("limits", [{"min_per_layer": 1}, {"scope": "layer"}])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_limits_per_layer_hold_in_training_and_in_the_decision(method, limits):
    model = bert()
    heads = 2 if "scope" in limits else 5
    with train(model, method, heads, 2, **limits) as session:
        total = session.quota.num_keep
        model.train()
        model(**batch())
        assert session.gates.value.sum().item() == pytest.approx(total, abs=1e-5)
        kept = session.decision().kept_per_layer
    assert sum(kept) == total
    assert min(kept) >= (2 if "scope" in limits else 1)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_evaluation_uses_the_hard_decision_without_noise(method):
    model = bert()
    with train(model, method, 5, 2) as session:
        model.eval()
        gated = model(**batch()).logits
        assert torch.equal(model(**batch()).logits, gated)
        assert set(session.gates.value.tolist()) == {0.0, 1.0}
        decision = session.decision()
    with hc.masked(model, decision):
        assert torch.equal(model(**batch()).logits, gated)


def test_training_draws_new_gates_at_each_pass():
    model, relaxed = bert().train(), hc.DSP(estimator=hc.RelaxedTopK())
    with hc.attach(model, relaxed, hc.Budget(heads=5), num_steps=10) as session:
        session.num_done = 5
        model(**batch())
        first = session.gates.value
        model(**batch())
        assert not torch.equal(session.gates.value, first)


def test_pipelined_training_moves_the_logits_alone():
    model = bert()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with train(model, hc.DSP(training="pipelined"), 5, 3) as session:
        start = hc.attach(bert(), hc.DSP(), hc.Budget(heads=5), num_steps=1).state.logits
        assert not torch.equal(session.state.logits, start)
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_closing_leaves_the_model_as_it_was():
    model = bert()
    plain = model(**batch()).logits
    with hc.attach(model, hc.DSP(), hc.Budget(heads=0), num_steps=1):
        assert not torch.equal(model(**batch()).logits, plain)
    assert torch.equal(model(**batch()).logits, plain)


def test_the_same_seed_gives_the_same_decision():
    scores = []
    for _ in range(2):
        torch.manual_seed(3)
        with train(bert(), hc.DSP(), 5, 4, seed=7) as session:
            scores.append(session.decision().sites)
    assert scores[0] == scores[1]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_saved_session_goes_on_the_same_way(method):
    first = train(bert(), method, 5, 3)
    second = hc.attach(bert(), method, hc.Budget(heads=5), num_steps=6, seed=99)
    second.load_state_dict(first.state_dict())
    first.begin(6)
    assert second.decision().sites == first.decision().sites
    draw = [s.method.gates(s.state, s.progress, s.generator) for s in (first, second)]
    assert torch.equal(*draw)


def test_a_state_of_another_method_is_refused():
    saved = train(bert(), hc.Random(), 5, 1).state_dict()
    other = hc.attach(bert(), hc.DSP(), hc.Budget(heads=5), num_steps=1)
    with pytest.raises(hc.CheckpointError, match="the method dsp on this model needs"):
        other.load_state_dict(saved)


def test_a_cooldown_longer_than_the_run_is_scaled_and_said(caplog):
    cold = hc.DSP(estimator=hc.RelaxedTopK(annealing=hc.Annealing(cooldown=1000)))
    with hc.attach(bert(), cold, hc.Budget(heads=5), num_steps=50) as session:
        assert "The cooldown of 1000 steps is longer than the run of 50 steps" in caplog.text
        session.num_done = 45
        assert session.metrics()["temperature"] == 0.01
        session.num_done = 44
        assert session.metrics()["temperature"] > 0.01


def test_gradients_that_would_overflow_are_clipped_to_the_norm():
    with hc.attach(bert(), hc.DSP(), hc.Budget(heads=5), num_steps=1) as session:
        session.state.logits.grad = torch.full((12,), 3e38)
        session.clip_grad()
        assert session.state.logits.grad.norm().item() == pytest.approx(1.0, abs=1e-4)


def test_negative_steps_are_refused():
    model = bert()
    with pytest.raises(hc.TrainingError, match=r"num_steps=-1\): give the number of steps"):
        hc.attach(model, hc.DSP(), hc.Budget(heads=5), num_steps=-1)
    hc.attach(model, hc.DSP(), hc.Budget(heads=5), num_steps=1).close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hc.DSP(learning_rate=0.0), r"DSP\(learning_rate=0.0\): give a positive number"),
        (lambda: hc.DSP(max_grad_norm=float("nan")), r"DSP\(max_grad_norm=nan\)"),
        (lambda: hc.DSP(training="both"), r"DSP\(training='both'\): give 'joint' or 'pipelined'"),
        (lambda: hc.Annealing(start=-1.0), r"Annealing\(start=-1.0\): give a positive number"),
        (lambda: hc.Annealing(cooldown=1.5), r"Annealing\(cooldown=1.5\): give a positive number"),
        (lambda: hc.Shrinking(hold=0.8), r"Shrinking\(hold=0.8, end=0.8\): give shares of the run"),
        (lambda: hc.Shrinking(end=1.1), r"Shrinking\(hold=0.1, end=1.1\): give shares of the run"),
        (lambda: hc.Shrinking(power=0.0), r"Shrinking\(power=0.0\): give a positive number"),
        (lambda: hc.Random(seed=-1), r"Random\(seed=-1\): give a whole number"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(hc.BudgetError, match=message):
        make()


def test_a_model_without_heads_left_is_refused():
    empty = hc.cut(bert(), hc.decide(bert(), hc.Random(seed=0), hc.Budget(heads=0)))
    with pytest.raises(hc.ArchitectureError, match=r"no units left to choose from"):
        hc.attach(empty, hc.DSP(), hc.Budget(heads=0), num_steps=1)


def planted(seed):
    """A frozen model in which only three heads reach the output, and the labels it gives."""
    torch.manual_seed(seed)
    settings = {**TINY, "num_labels": 3, "initializer_range": 0.5, "num_hidden_layers": 2}
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**settings))
    heads = torch.zeros(8, dtype=torch.bool)
    heads[torch.randperm(8)[:3]] = True
    with torch.no_grad():
        for layer, kept in zip(model.bert.encoder.layer, heads.view(2, 4), strict=True):
            layer.attention.output.dense.weight *= 3 * kept.repeat_interleave(6)
        model.classifier.weight *= 3
        ids = torch.randint(5, 40, (256, 6))
        labels = model.eval()(ids).logits.argmax(-1)
    return model, heads, ids, labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("training", ["joint", "pipelined"])
def test_the_heads_that_carry_the_label_are_the_ones_kept(training, seed):
    model, heads, ids, labels = planted(seed)
    method = hc.DSP(estimator=hc.RelaxedTopK(), training=training)
    steps = 150
    with hc.attach(model, method, hc.Budget(heads=3), num_steps=steps, seed=seed) as session:
        optimizer = torch.optim.Adam(session.parameters(), lr=method.learning_rate)
        for _ in range(steps):
            rows = torch.randint(256, (64,))
            model.train()
            model(ids[rows], labels=labels[rows]).loss.backward()
            session.clip_grad()
            optimizer.step()
            session.step()
        assert session.keep().tolist() == heads.tolist()
