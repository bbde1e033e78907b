import pytest
import torch
import transformers

import headcount as hc
from cases import METHODS, TINY, batch, bert, llama, with_cross_attention
from headcount.gates.attach import has_gates
from headcount.units.quota import CountQuota

LABELS = torch.tensor([0, 1, 2])


def train(model, method, budget, steps, *, seed=0, **targets):
    """One's own loop, as the documentation shows it; a number is a budget of heads."""
    asked = hc.Budget(heads=budget) if isinstance(budget, int) else budget
    inputs = {**batch(), **(targets or {"labels": LABELS})}
    session = hc.attach(model, method, asked, num_steps=steps, seed=seed)
    groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    groups += [{"params": list(session.parameters()), "lr": 0.5, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=1e-3)
    for _ in range(steps):
        model.train()
        loss = model(**inputs).loss + session.penalty()
        loss.backward()
        session.clip_grad()
        optimizer.step()
        optimizer.zero_grad()
        session.step()
    return session


def train_llama(model, method, budget, steps):
    return train(model, method, budget, steps, labels=batch()["input_ids"])


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
    with train(model, method, hc.Budget(heads=heads, **limits), 2) as session:
        (quota,) = session.quotas
        total = quota.num_keep
        assert total == (6 if "scope" in limits else 5)
        model.train()
        model(**batch())
        most = 12 if isinstance(getattr(method, "shrinking", None), hc.Sampling) else total
        assert total - 1e-5 <= session.gates.value.sum().item() <= most + 1e-5
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
        start = hc.attach(bert(), hc.DSP(), hc.Budget(heads=5), num_steps=1).states[0].logits
        assert not torch.equal(session.states[0].logits, start)
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
    draw = [s.method.gates(s.states[0], s.progress, s.generator) for s in (first, second)]
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
        assert "soft to the end" not in caplog.text
        session.num_done = 45
        assert session.metrics()["temperature"] == 0.01
        session.num_done = 44
        assert session.metrics()["temperature"] > 0.01


def test_gradients_that_would_overflow_are_clipped_to_the_norm():
    with hc.attach(bert(), hc.DSP(), hc.Budget(heads=5), num_steps=1) as session:
        session.states[0].logits.grad = torch.full((12,), 3e38)
        session.clip_grad()
        assert session.states[0].logits.grad.norm().item() == pytest.approx(1.0, abs=1e-4)


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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "dsp"}, r"attach\(method='dsp'\): a str is no Method\. Give an instance"),
        ({"method": hc.DSP}, r"attach\(method=DSP\): a class is no Method\."),
        ({"budget": 12}, r"attach\(budget=12\): an int is no Budget\."),
        ({"model": "bert"}, r"attach\(model='bert'\): a str is no Module"),
    ],
)
def test_something_of_the_wrong_type_is_refused_with_the_right_one(given, message):
    call = {"model": bert(), "method": hc.DSP(), "budget": hc.Budget(heads=5), **given}
    with pytest.raises(hc.ArgumentError, match=message):
        hc.attach(**call, num_steps=1)


def test_a_model_without_heads_left_is_refused():
    empty = hc.cut(bert(), hc.decide(bert(), hc.Random(seed=0), hc.Budget(heads=0)))
    message = (
        r"Budget\(heads=0\): the model has no heads. It has 3 layers, 6 sublayers, 96 neurons: ask"
    )
    with pytest.raises(hc.BudgetError, match=message):
        hc.attach(empty, hc.DSP(), hc.Budget(heads=0), num_steps=1)
    with hc.attach(empty, hc.DSP(), hc.Budget(neurons=9), num_steps=1) as session:
        assert session.decision().num("neuron") == 9


def test_a_model_without_any_unit_left_is_refused():
    model = transformers.BertModel(transformers.BertConfig(**{**TINY, "num_hidden_layers": 1}))
    empty = hc.cut(model, hc.decide(model, hc.Random(seed=0), hc.Budget(layers=0)))
    with pytest.raises(hc.ArchitectureError, match=r"no units left to choose from"):
        hc.attach(empty, hc.DSP(), hc.Budget(heads=0), num_steps=1)


def ids(method):
    return method.name


SEVERAL = (
    (hc.Budget(heads=5, neurons=30), {"head": 5, "neuron": 30}),
    (hc.Budget(sublayers={"self": 1, "ffn": 2}, heads=3), {"sublayer": 3, "head": 3}),
    (
        hc.Budget(sublayers={"ffn": 1, "self": 3}, heads=7, neurons=20),
        {"sublayer": 4, "head": 7, "neuron": 20},
    ),
    (hc.Budget(layers=2, heads=5, neurons=9), {"layer": 2, "head": 5, "neuron": 9}),
    (hc.Budget(layers=1, sublayers=1), {"layer": 1, "sublayer": 1}),
)
"""Budgets over several kinds of units, and the counts that they mean."""


@pytest.mark.parametrize(("budget", "counts"), SEVERAL, ids=[repr(b) for b, _ in SEVERAL])
@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_every_method_keeps_every_kind_exactly(method, budget, counts):
    model = bert()
    with train(model, method, budget, 2) as session:
        decision = session.decision()
        assert session.keep().sum() == decision.num_kept == sum(counts.values())
    assert {kind: decision.num(kind) for kind in decision.kinds} == counts
    small = hc.units(hc.cut(model, decision))
    assert {kind: small.num(kind) for kind in counts} == counts


@pytest.mark.parametrize(("budget", "counts"), SEVERAL, ids=[repr(b) for b, _ in SEVERAL])
def test_a_session_is_about_what_the_budget_names(budget, counts):
    model = bert()
    with hc.attach(model, hc.DSP(), budget, num_steps=1) as session:
        assert session.units.kinds == counts.keys()
        assert len(session.quotas) == len(session.states)
        assert len(session.scores()) == len(session.units) == len(session.keep())
        sites = [site for quota in session.quotas for site in quota.units.sites]
        assert list(session.units.sites) == sites
        names = {f"state.{index}.logits" for index in range(len(session.quotas))}
        assert session.state_dict().keys() == names | {"num_done", "generator"}
        assert len(list(session.parameters())) == len(session.quotas)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("fields", "outer"),
    [({"sublayers": {"self": 1, "ffn": 2}}, "sublayer"), ({"layers": 1}, "layer")],
)
@pytest.mark.parametrize("method", [hc.Random(), hc.Magnitude(), hc.DSP()], ids=ids)
def test_heads_inside_what_is_removed_are_not_kept(method, fields, outer, seed):
    """Whatever their scores: one layer's attention stays, and three of its heads."""
    torch.manual_seed(seed)
    budget = hc.Budget(**fields, heads=3)
    with hc.attach(bert(), method, budget, num_steps=1, seed=seed) as session:
        decision = session.decision()
    sites = [site for site in decision.sites if site.branch != "ffn"]
    layers = {
        kind: {s.layer for s in sites if s.kind == kind and s.kept} for kind in ("head", outer)
    }
    assert len(layers["head"]) == 1
    assert layers["head"] == layers[outer]
    assert (decision.num("head"), decision.num(outer)) == (3, 1 if outer == "layer" else 3)


@pytest.mark.parametrize(("budget", "counts"), SEVERAL[:3], ids=[repr(b) for b, _ in SEVERAL[:3]])
@pytest.mark.parametrize("method", [hc.DSP(), hc.Random()], ids=ids)
def test_evaluation_of_several_kinds_is_what_the_masked_and_the_cut_model_compute(
    method, budget, counts
):
    model = bert().double()
    with train(model, method, budget, 2) as session:
        model.eval()
        gated = model(**batch()).logits
        decision = session.decision()
    with hc.masked(model, decision):
        assert torch.equal(model(**batch()).logits, gated)
    small = hc.cut(model, decision)
    torch.testing.assert_close(small(**batch()).logits, gated, atol=1e-10, rtol=0)


def test_metrics_of_several_kinds_are_told_apart():
    with hc.attach(bert(), hc.DSP(), hc.Budget(heads=5, neurons=9), num_steps=1) as session:
        assert session.metrics().keys() == {
            "head_size",
            "head_entropy",
            "neuron_size",
            "neuron_entropy",
        }


def test_metrics_of_several_places_are_told_apart():
    budget = hc.Budget(heads={"encoder": 5, "cross": 2})
    with hc.attach(with_cross_attention(), hc.DSP(), budget, num_steps=1) as session:
        assert len(session.metrics()) == 4


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_a_saved_session_of_several_kinds_goes_on_the_same_way(method):
    budget = hc.Budget(sublayers={"self": 2}, heads=5, neurons=9)
    first = train(bert(), method, budget, 3)
    second = hc.attach(bert(), method, budget, num_steps=6, seed=99)
    second.load_state_dict(first.state_dict())
    first.begin(6)
    assert second.decision().sites == first.decision().sites
    for own, other in zip(first.states, second.states, strict=True):
        draw = [
            s.method.gates(state, s.progress, s.generator)
            for s, state in ((first, own), (second, other))
        ]
        assert torch.equal(*draw)


def test_a_state_of_another_budget_is_refused():
    saved = train(bert(), hc.DSP(), 5, 1).state_dict()
    other = hc.attach(bert(), hc.DSP(), hc.Budget(heads=5, neurons=9), num_steps=1)
    with pytest.raises(hc.CheckpointError, match="Resume with the model, method and budget"):
        other.load_state_dict(saved)


@pytest.mark.parametrize(
    "fields", [{"place": "cross"}, {"place": "decoder"}, {"place": "decoder.self"}], ids=str
)
def test_what_lies_elsewhere_is_left_alone(fields):
    model = with_cross_attention()
    budget = hc.Budget(heads=2, **fields)
    decision = hc.decide(model, hc.Random(seed=0), budget)
    small = hc.cut(model, decision)
    before, after = hc.units(model), hc.units(small)
    place = fields["place"]
    assert after.at(place).num("head") == decision.num_kept == 2
    gone = before.at(place).num("head") - 2
    assert after.num("head") == before.num("head") - gone
    assert after.num("neuron") == before.num("neuron")
    assert after.num("layer") == before.num("layer")


GQA = (hc.DSP(), hc.DSP(shrinking=None), hc.Random(), hc.Magnitude())


def heads_per_group(table, values):
    """The sums over the query heads of each key-value head, [sites, 4]."""
    assert {site.num_groups for site in table.sites} == {4}
    return torch.stack([values[span].view(4, -1).sum(1) for span in table.slices])


@pytest.mark.parametrize("heads", [0, 4, 12, 24, 0.5, 0.3])
@pytest.mark.parametrize("method", GQA, ids=ids)
def test_query_heads_stay_in_equal_numbers_for_every_key_value_head(method, heads):
    """At every step of the run, in training and in evaluation, and in the cut model."""
    model, total = llama(), {0.5: 12, 0.3: 8}.get(heads, heads)
    drawn = []
    with hc.attach(model, method, hc.Budget(heads=heads), num_steps=6) as session:
        optimizer = torch.optim.AdamW([*model.parameters(), *session.parameters()], lr=0.05)
        for _ in range(6):
            model.train()
            model(**batch(), labels=batch()["input_ids"]).loss.backward()
            drawn.append(session.gates.value.detach())
            session.clip_grad()
            optimizer.step()
            optimizer.zero_grad()
            session.step()
            counts = heads_per_group(session.units, session.keep().long())
            assert counts.sum() == total
            assert (counts == counts[:, :1]).all()
        decision = session.decision()
    sizes = [heads_per_group(session.units, gates) for gates in drawn]
    assert all((counts == counts[:, :1]).all() for counts in sizes)
    falls = [int(counts.sum()) for counts in sizes]
    assert falls == sorted(falls, reverse=True)
    assert falls[-1] == total
    small = hc.units(hc.cut(model, decision))
    assert small.num("head") == decision.num_kept == total
    assert small.num("kv_head") == sum(4 for site in decision.sites if any(site.keep))


@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_every_method_decides_for_equal_numbers_of_query_heads(method):
    model = llama()
    with train_llama(model, method, 12, 3) as session:
        counts = heads_per_group(session.units, session.keep().long())
        decision = session.decision()
    assert counts.sum() == decision.num_kept == 12
    assert (counts == counts[:, :1]).all()
    assert hc.units(hc.cut(model, decision)).num("head") == 12


@pytest.mark.parametrize("heads", [4, 8])
@pytest.mark.parametrize("method", GQA, ids=ids)
def test_query_heads_stay_in_equal_numbers_in_every_layer(method, heads):
    model = llama()
    with train_llama(model, method, hc.Budget(heads=heads, scope="layer"), 5) as session:
        decision = session.decision()
    assert decision.kept_per_layer == (heads,) * 3
    assert hc.units(hc.cut(model, decision), "head").num_per_layer == (heads,) * 3


@pytest.mark.parametrize("limits", [{}, {"min_per_layer": 1}, {"scope": "layer"}], ids=str)
@pytest.mark.parametrize("method", METHODS, ids=ids)
def test_whole_groups_are_kept_exactly(method, limits):
    model, total = llama(), 9 if "scope" in limits else 3
    least = 3 if "scope" in limits else limits.get("min_per_layer", 0)
    with train_llama(model, method, hc.Budget(kv_heads=3, **limits), 3) as session:
        assert session.units.kinds == {"kv_head"}
        decision = session.decision()
    assert decision.num("kv_head") == decision.num_kept == total
    assert min(decision.kept_per_layer) >= least
    small = hc.units(hc.cut(model, decision))
    assert (small.num("kv_head"), small.num("head")) == (total, 2 * total)


@pytest.mark.parametrize("method", GQA, ids=ids)
@pytest.mark.parametrize(
    ("budget", "counts"),
    [
        (hc.Budget(kv_heads=3, neurons=20), {"kv_head": 3, "neuron": 20}),
        (hc.Budget(sublayers={"self": 2, "ffn": 2}, heads=12), {"sublayer": 4, "head": 12}),
        (hc.Budget(layers=2, kv_heads=5, neurons=11), {"layer": 2, "kv_head": 5, "neuron": 11}),
    ],
    ids=str,
)
def test_a_decoder_keeps_every_kind_exactly(method, budget, counts):
    model = llama().double()
    with train_llama(model, method, budget, 3) as session:
        model.eval()
        gated = model(**batch()).logits
        decision = session.decision()
    assert {kind: decision.num(kind) for kind in decision.kinds} == counts
    small = hc.cut(model, decision)
    table = hc.units(small)
    assert {kind: table.num(kind) for kind in counts} == counts
    torch.testing.assert_close(small(**batch()).logits, gated, atol=1e-10, rtol=0)


@pytest.mark.parametrize("method", [hc.Magnitude(), hc.DSP(training="pipelined")], ids=ids)
def test_a_failing_start_leaves_the_model_as_it_was(method, monkeypatch):
    """The keep of the start cannot be made, for instance because a weight is not a number."""

    def fail(*args, **kwargs):
        raise hc.BudgetError("the scores of units [0] are not finite")

    model = bert()
    monkeypatch.setattr(CountQuota, "keep", fail)
    with pytest.raises(hc.BudgetError, match="not finite"):
        hc.attach(model, method, hc.Budget(heads=5), num_steps=1)
    assert not has_gates(model)
    assert not model._forward_pre_hooks
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_one_session_decides_for_many_budgets(method):
    """Each decision is exact, and nested in the next."""
    model = bert()
    with train(model, method, 6, 3) as session:
        small, own, large = session.decisions([2, hc.Budget(heads=6), 9])
        assert [d.num_kept for d in (small, own, large)] == [2, 6, 9]
        assert [d.provenance["budget"] for d in (small, large)] == [{"heads": 2}, {"heads": 9}]
        assert own == session.decision()
        units = hc.units(model, "head")
        assert (small.keep(units) <= own.keep(units)).all()
        assert (own.keep(units) <= large.keep(units)).all()


@pytest.mark.parametrize(
    "budget", [hc.Budget(neurons=3), hc.Budget(heads=2, place="cross")], ids=repr
)
def test_decisions_about_other_units_are_refused(budget):
    with (
        hc.attach(with_cross_attention(), hc.DSP(), hc.Budget(heads=6), num_steps=0) as session,
        pytest.raises(hc.BudgetError, match="the session has scores for Budget"),
    ):
        session.decisions([budget])
    assert session.budget == hc.Budget(heads=6)


def t5():
    config = transformers.T5Config(
        vocab_size=40,
        d_model=24,
        d_kv=6,
        d_ff=32,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config)


def test_parts_that_are_called_by_themselves_have_the_decision_of_the_moment():
    """``generate`` calls the encoder before the model itself, in evaluation."""
    model, inputs = t5(), batch()
    session = train(model, hc.DSP(estimator=hc.RelaxedTopK()), 9, 2, labels=inputs["input_ids"])
    model.eval()
    seen = []
    hook = model.get_encoder().register_forward_hook(lambda m, a, out: seen.append(out[0]))
    settings = {"max_new_tokens": 4, "do_sample": False, "return_dict_in_generate": True}
    settings |= {"output_logits": True}
    found = [torch.stack(model.generate(**inputs, **settings).logits)]
    model.get_encoder()(**inputs)
    decision = session.decision()
    session.close()
    with hc.masked(model, decision):
        found.append(torch.stack(model.generate(**inputs, **settings).logits))
    hook.remove()
    assert torch.equal(*found)
    assert len(seen) == 3
    assert torch.allclose(seen[0], seen[1], atol=1e-6)
    assert torch.equal(seen[0], seen[2])


def test_a_part_called_by_itself_in_training_has_one_draw():
    model = bert().train()
    with hc.attach(model, hc.DSP(estimator=hc.RelaxedTopK()), hc.Budget(heads=5), num_steps=4) as s:
        drawn = []
        draw = s.draw
        s.draw = lambda: drawn.append(draw()) or drawn[-1]
        model.bert(**batch())
        assert len(drawn) == 1
        model(**batch())
        assert len(drawn) == 2
        assert torch.equal(s.gates.value, drawn[-1])


@pytest.mark.parametrize("part", ["", "bert"])
def test_a_pass_that_fails_does_not_keep_the_next_one_from_its_gates(part):
    model = bert().eval()
    with hc.attach(model, hc.DSP(), hc.Budget(heads=5), num_steps=4) as session:
        with pytest.raises(ValueError, match="too many values"):
            model.get_submodule(part)(torch.zeros(1, 2, 3, 4, dtype=torch.long))
        session.gates.value = None
        model.bert(**batch())
        assert session.gates.value.sum() == 5


def test_layers_that_are_calculated_again_for_their_gradient_have_the_same_gates():
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        model = bert().train()
        if again:
            enable = getattr(model, "activation_checkpointing_enable", None)
            (enable or model.gradient_checkpointing_enable)()
        session = hc.attach(model, hc.DSP(), hc.Budget(heads=5), num_steps=4)
        torch.manual_seed(1)
        model(**batch(), labels=LABELS).loss.backward()
        found.append([p.grad.clone() for p in model.parameters()])
        assert session.generator.get_state().sum() > 0
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


def test_a_decision_before_the_first_step_says_that_nothing_is_learnt(caplog):
    with hc.attach(bert(), hc.DSP(), hc.Budget(heads=5), num_steps=4) as session:
        session.decision()
    assert "after 0 of 4 steps, dsp decides by its random start" in caplog.text
    caplog.clear()
    with train(bert(), hc.DSP(), 5, 1) as session:
        session.decision()
    assert not caplog.text
