"""Budgets of parameters, MACs and latency on real models: what is asked, reached and recounted."""

import math
import re

import pytest
import torch
import transformers

import headcount as hc
from cases import LOOKING, batch, bert, clip, llama, with_cross_attention
from headcount.reports.measure import macs
from headcount.zoo.tiny import tiny_model

COARSE = {"layer", "sublayer"}


def num_params(model):
    return sum(parameter.numel() for parameter in model.parameters())


def macs_of_units(model, kinds, length=128):
    """MACs of a model's units, counted from what it has now."""
    sites = hc.units(model).only(*kinds).sites
    return sum(site.num_units * site.cost.macs(length) + site.rest.macs(length) for site in sites)


def macs_left(model, decision, length=128):
    """MACs of attention that runs on without heads."""
    sites = {site.key: site for site in hc.units(model).sites}
    return sum(sites[s.key].left * length**2 for s in decision.sites if not any(s.keep))


def fits_more(costs, keep, limit):
    """Whether a unit could still be added: one of each site, since all of them cost the same."""
    for span in costs.units.slices:
        for unit in (~keep[span]).nonzero().flatten().tolist()[:1]:
            more = keep.clone()
            more[span.start + unit] = True
            if torch.equal(costs.inside(more), more) and costs.of(more) <= limit:
                return True
    return False


def decided(model, budget, seed=0, method=None, batches=None):
    """A decision, checked: not above what was asked, and nothing more would fit."""
    decision = hc.decide(model, method or hc.Random(seed=seed), budget, batches)
    cost = decision.provenance["cost"]
    (quota,) = budget.quotas(hc.units(model))
    costs = quota.costs
    assert cost["reached"] <= cost["target"]
    assert not fits_more(costs, decision.keep(quota.units), cost["target"])
    return decision, cost


MODELS = {
    "bert": bert,
    "llama": llama,
    "both": with_cross_attention,
    "clip": clip,
    **{
        name: lambda name=name: tiny_model(name)
        for name in ("distilbert", "t5", "gpt2", "vit", "qwen3", "gemma3_text", "olmo2", "phi3")
    },
}
"""Gated and fused feed-forward networks, groups, Conv1D, norms of each head and of all together,
position biases that layers share, two towers."""


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("inner", [False, True], ids=["units", "nested"])
def test_the_parameters_of_the_cut_model_are_what_was_reported(name, inner):
    model = MODELS[name]()
    units = hc.units(model)
    grouped = any(site.num_groups > 1 for site in units.sites)
    outer = sorted(COARSE & units.kinds) if inner else []
    kinds = (*outer, "kv_head" if grouped else "head", "neuron")
    costs = hc.Budget(params=1.0, kinds=kinds).quotas(units)[0].costs
    for seed, share in enumerate((0.0, 0.3, 0.85, 1.0)):
        limit = costs.base + math.ceil(share * (costs.whole - costs.base))
        decision, cost = decided(model, hc.Budget(params=limit, kinds=kinds), seed)
        small = hc.cut(model, decision)
        assert num_params(small) == cost["reached"]
        assert (cost["whole"], cost["asked"]) == (num_params(model), limit)


@pytest.mark.parametrize("kinds", [("head",), ("head", "neuron"), ("sublayer", "neuron")])
@pytest.mark.parametrize("alike", [False, True])
def test_tables_that_layers_share_are_copied_only_where_layers_differ(kinds, alike):
    model = tiny_model("t5")
    units = hc.units(model, *kinds)
    costs = hc.Budget(params=1.0, kinds=kinds).quotas(hc.units(model))[0].costs
    keep = torch.ones(len(units), dtype=torch.bool)
    for site, span in zip(units.sites, units.slices, strict=True):
        if site.kind in ("head", "sublayer") and (alike or site.layer == 1):
            keep[span.start] = site.branch == "ffn"
    small = hc.cut(model, hc.Decision.of(units, keep, keep.double(), {}))
    assert costs.of(keep) == num_params(small)


def test_room_that_shared_tables_leave_is_used():
    """As long as all layers keep all heads, none of them needs a copy of its columns."""
    model = tiny_model("t5")
    (quota,) = hc.Budget(params=0.95).quotas(hc.units(model))
    scores = torch.tensor(
        [1.0 + (s.kind == "head") for s in quota.units.sites for _ in range(s.num_units)]
    )
    keep = quota.keep(scores)
    heads = torch.tensor([s.kind == "head" for s in quota.units.sites for _ in range(s.num_units)])
    assert keep[heads].all()
    assert not fits_more(quota.costs, keep, quota.target)


def test_a_floor_counts_once_a_layer_whatever_attends_in_it():
    """A decoder layer of T5 has two attentions; one head of either is enough."""
    units = hc.units(tiny_model("t5"))
    heads, layers = units.num("head"), len(units.only("head").layers)
    (whole,) = hc.Budget(macs=1.0, kinds=("head",)).quotas(units)
    least = whole.costs.base + layers * int(whole.costs.steps[0][1])
    (quota,) = hc.Budget(macs=least, kinds=("head",), min_per_layer=1).quotas(units)
    keep = quota.keep(torch.arange(float(heads)))
    assert quota.units.layer_of_unit[keep].tolist() == list(range(layers))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_macs_of_the_cut_model_are_what_was_reported(name):
    model = MODELS[name]()
    for seed, share in enumerate((0.37, 0.8)):
        decision, cost = decided(model, hc.Budget(macs=share, length=20), seed)
        small = hc.cut(model, decision)
        left = macs_left(model, decision, 20)
        assert macs_of_units(small, decision.kinds, 20) + left == cost["reached"]
        assert macs_of_units(model, decision.kinds, 20) == cost["whole"]
        assert cost["target"] == math.floor(share * cost["whole"])


READ_TOKENS = sorted(MODELS.keys() - {"clip", "vit"})


@pytest.mark.parametrize("name", READ_TOKENS)
@pytest.mark.parametrize("inner", [(), ("sublayer",), ("layer",)], ids=str)
def test_the_macs_that_a_counter_counts_fall_by_what_was_reported(name, inner):
    """Attention without heads runs on in most models, with one head of zeros."""
    model = MODELS[name]().eval()
    units = hc.units(model)
    if inner and not set(inner) <= units.kinds:
        pytest.skip("no such units")
    heads = "kv_head" if any(site.num_groups > 1 for site in units.sites) else "head"
    ids = torch.randint(3, 30, (1, 20), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    (quota,) = hc.Budget(macs=1.0, kinds=(*inner, heads, "neuron"), length=20).quotas(units)
    costs, before = quota.costs, macs(model, inputs)
    rng = torch.Generator().manual_seed(0)
    for share in (0.0, 0.2, 0.6):
        keep = costs.inside(torch.rand(len(quota.units), generator=rng) < share)
        small = hc.cut(model, hc.Decision.of(quota.units, keep, keep.double(), {}))
        assert before - macs(small, inputs) == costs.whole - costs.of(keep)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_that_runs_often_costs_its_macs_as_often(groups):
    config = transformers.AlbertConfig(
        vocab_size=40, embedding_size=8, hidden_size=32, num_attention_heads=4,
        intermediate_size=64, num_hidden_layers=5, num_hidden_groups=groups, inner_group_num=2,
    )  # fmt: skip
    model = transformers.AlbertModel(config).eval()
    inputs = {"input_ids": torch.randint(3, 30, (1, 20))}
    decision, cost = decided(model, hc.Budget(macs=0.5, length=20))
    small = hc.cut(model, decision)
    assert macs(model, inputs) - macs(small, inputs) == cost["whole"] - cost["reached"]
    asked = cost["reached"]
    _, again = decided(model, hc.Budget(macs=asked, length=20))
    assert again["reached"] == asked


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
@pytest.mark.parametrize("budget", [hc.Budget(params=0.8), hc.Budget(macs=0.4)], ids=repr)
@pytest.mark.parametrize(
    "method",
    [hc.DSP(), hc.DSP(training="pipelined"), hc.HardConcrete(), hc.Random(), hc.Magnitude()],
    ids=lambda method: method.name,
)
def test_every_method_trains_within_a_cost(name, budget, method):
    model = MODELS[name]()
    model.config.decoder_start_token_id = 0
    ids = torch.randint(1, 30, (2, 6))
    labels = torch.tensor([0, 2]) if name == "bert" else ids
    with hc.attach(model, method, budget, num_steps=5) as session:
        (state,), (quota,) = session.states, session.quotas
        groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
        groups += [{"params": [*session.parameters()], "lr": 0.5, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=1e-3)
        model.train()
        for _ in range(5 if len(optimizer.param_groups) else 0):
            (model(input_ids=ids, labels=labels).loss + session.penalty()).backward()
            session.clip_grad()
            optimizer.step()
            optimizer.zero_grad()
            session.step()
        model(input_ids=ids, labels=labels)
        drawn = session.gates.value.detach() > 0.5
        assert quota.costs.of(drawn) <= quota.target
        assert not fits_more(quota.costs, drawn, quota.target)
        assert torch.isfinite(method.scores(state)).all()
        decision = session.decision()
        (lower,) = session.decisions([hc.Budget(**{**budget.describe(), "macs": 0.2})]) if (
            budget.macs
        ) else (decision,)  # fmt: skip
    cost = decision.provenance["cost"]
    small = hc.cut(model, decision)
    left = macs_left(model, decision)
    found = num_params(small) if budget.params else macs_of_units(small, decision.kinds) + left
    assert found == cost["reached"] <= cost["target"]
    assert lower.provenance["cost"]["target"] <= cost["target"]


@pytest.mark.parametrize("method", LOOKING, ids=lambda method: method.name)
@pytest.mark.parametrize(
    "budget",
    [
        hc.Budget(macs=0.5, length=7),
        hc.Budget(params=0.8),
        hc.Budget(macs=0.6, length=7, kinds=("sublayer", "head", "neuron")),
    ],
    ids=repr,
)
def test_methods_that_look_at_data_decide_within_a_cost(method, budget):
    model = bert()
    batches = [{**batch(), "labels": torch.tensor([0, 1, 2])}]
    decision, cost = decided(model, budget, method=method, batches=batches)
    small = hc.cut(model, decision)
    if budget.params:
        assert num_params(small) == cost["reached"]
    else:
        ids = {"input_ids": batch(1, budget.length)["input_ids"]}
        assert macs(model, ids) - macs(small, ids) == cost["whole"] - cost["reached"]


def test_the_price_of_nested_units_is_that_of_the_products_of_their_chances():
    """As in CoFi: what hard concrete gates cost on the mean, and its gradient, reach all kinds."""
    model, kinds = bert(), ("sublayer", "head", "neuron")
    budget = hc.Budget(params=0.8, kinds=kinds)
    with hc.attach(model, hc.HardConcrete(), budget, num_steps=10) as session:
        session.num_done = 4
        session.penalty().backward()
        (state,), (quota,) = session.states, session.quotas
        for kind in kinds:
            at = torch.tensor([unit.site.kind == kind for unit in quota.units])
            assert state.log_alpha.grad[at].all()
        decision = session.decision()
    assert num_params(hc.cut(model, decision)) == decision.provenance["cost"]["reached"]


def test_the_subset_shrinks_from_everything_to_the_cost():
    model = bert()
    with hc.attach(model, hc.DSP(), hc.Budget(macs=0.25), num_steps=10) as session:
        costs = session.quotas[0].costs
        sizes = []
        for _ in range(11):
            sizes.append(costs.of(session.draw().detach() > 0.5))
            session.step()
    assert sizes[0] == costs.whole
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= 0.25 * costs.whole


@pytest.mark.parametrize("budget", [hc.Budget(params=0.8), hc.Budget(macs=0.5)], ids=repr)
def test_the_relaxed_estimator_says_that_it_needs_a_number(budget):
    (name, share), *_ = budget.describe().items()
    message = (
        f"Budget({name}={share}): RelaxedTopK needs a number of units, and this budget limits "
        "a cost. Give a number of units, or another method or estimator: DSP() takes any budget."
    )
    model = bert()
    with pytest.raises(hc.BudgetError, match=f"^{re.escape(message)}$"):
        hc.attach(model, hc.DSP(estimator=hc.RelaxedTopK()), budget, num_steps=1)
    hc.attach(model, hc.DSP(), budget, num_steps=1).close()


def test_magnitude_does_not_prefer_a_kind_for_its_size():
    model = bert()
    for layer in model.bert.encoder.layer:
        for linear in (m for m in layer.modules() if isinstance(m, torch.nn.Linear)):
            torch.nn.init.normal_(linear.weight)
    decision, _ = decided(model, hc.Budget(macs=0.5), method=hc.Magnitude())
    assert 0 < decision.num("neuron") < 96
    counted = hc.decide(model, hc.Magnitude(), hc.Budget(heads=5))
    norms = torch.tensor([score for site in counted.sites for score in site.scores])
    assert (norms > 5).all()  # of 288 weights each, undivided


def test_bert_base_costs_what_is_published():
    """Kwon et al. 2022: 128 tokens, 144 heads and 36,864 neurons."""
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig())
    units = hc.units(model)
    costs = {kind: units.only(kind).sites[0].cost.macs(128) for kind in ("head", "neuron")}
    assert costs == {"head": 27_262_976, "neuron": 196_608}
    (quota,) = hc.Budget(macs=1.0).quotas(units)
    assert quota.target == quota.whole == 11_173_625_856
    (half,) = hc.Budget(macs=0.5).quotas(units)
    scores = torch.randn(len(quota.units), generator=torch.Generator().manual_seed(0))
    keep = half.keep(scores)
    assert 0 <= half.target - half.costs.of(keep) < 196_608


def test_the_place_and_the_kinds_say_what_may_go():
    model = with_cross_attention()
    decision, _ = decided(model, hc.Budget(macs=0.5, place="decoder.cross"))
    assert {site.module.split(".")[-2] for site in decision.sites} == {"crossattention"}
    decision, _ = decided(model, hc.Budget(params=0.9, kinds=("neuron",)))
    assert decision.kinds == ("neuron",)
    grouped, _ = decided(llama(), hc.Budget(params=0.8))
    assert sorted(grouped.kinds) == ["kv_head", "neuron"]


def test_every_layer_keeps_its_best_units_of_each_kind():
    model = bert()
    decision, _ = decided(model, hc.Budget(params=0.7, min_per_layer=2))
    for site in decision.sites:
        best = sorted(range(len(site.scores)), key=lambda unit: -site.scores[unit])[:2]
        assert all(site.keep[unit] for unit in best)


def test_a_decision_about_a_cost_is_saved_and_read_back(tmp_path):
    decision, cost = decided(bert(), hc.Budget(params=0.8))
    decision.save(tmp_path / "decision.json")
    assert hc.Decision.load(tmp_path / "decision.json").provenance["cost"] == cost


def test_layers_that_share_weights_have_no_budget_of_parameters():
    model = tiny_model("zamba")
    assert hc.units(model).num_params is None
    with pytest.raises(hc.BudgetError, match=r"the model's layers share weights, .* Give macs"):
        hc.Budget(params=0.9).quotas(hc.units(model))


UNITS = hc.units(bert())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"params": 0.5, "macs": 0.5}, "Budget(params=0.5, macs=0.5): give one of them."),
        (
            {"params": 0.5, "heads": 3},
            "Budget(params=0.5, heads=3): give numbers of units, or one cost. kinds=(...) says "
            "what may go for a cost.",
        ),
        ({"params": 1.5}, "Budget(params=1.5): a fraction lies between 0.0 and 1.0."),
        ({"macs": -1}, "Budget(macs=-1): it cannot be negative. Give 0 or more."),
        (
            {"macs": "half"},
            "Budget(macs='half'): str is not a number. Give a fraction such as 0.5.",
        ),
        (
            {"params": True},
            "Budget(params=True): bool is not a number. Give a fraction such as 0.5.",
        ),
        (
            {"latency": 1},
            "Budget(latency=1): give a fraction of the model's own latency, such as 0.7.",
        ),
        (
            {"params": 0.5, "scope": "layer"},
            "Budget(params=0.5, scope='layer'): a cost is for the whole model. Give min_per_layer "
            "to keep units in every layer.",
        ),
        (
            {"params": 0.5, "kinds": ("head", "tail")},
            "Budget(kinds=('head', 'tail')): give some of layer, sublayer, kv_head, head, neuron, "
            "each once.",
        ),
        (
            {"params": 0.5, "kinds": ("head", "kv_head")},
            "Budget(kinds=('head', 'kv_head')): give 'head' or 'kv_head'. A key-value head "
            "goes with all its query heads.",
        ),
        (
            {"heads": 3, "kinds": ("head",)},
            "Budget(kinds=...): it goes with params or macs or latency only, such as "
            "Budget(latency=0.5, kinds=...).",
        ),
        (
            {"params": 0.5, "length": 64},
            "Budget(length=...): it goes with macs only, such as Budget(macs=0.5, length=...).",
        ),
        ({"macs": 0.5, "length": 0}, "Budget(length=0): give a number of tokens, 1 or more."),
        (
            {"params": 0.5, "kinds": ("sublayer", "neuron"), "min_per_layer": 1},
            "Budget(params=0.5, kinds=('sublayer', 'neuron'), min_per_layer=1): a layer or "
            "sublayer that goes takes its units along. Give min_per_layer=0, or kinds without "
            "'layer' and 'sublayer'.",
        ),
        (
            {"latency": 0.5, "kinds": ("layer",)},
            "Budget(latency=0.5, kinds=('layer',)): latencies are measured for key-value heads, "
            "heads and neurons. Give some of these.",
        ),
    ],
)
def test_a_cost_that_cannot_be_is_refused(fields, message):
    with pytest.raises(hc.BudgetError, match=f"^{re.escape(message)}$"):
        hc.Budget(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"params": 0.2},
            "Budget(params=0.2): the heads and neurons are 78.1% of the model's parameters (11832 "
            "of 15147). Without them, 3315 are left: give at least 0.2189 or 3315, or let more "
            "kinds go.",
        ),
        (
            {"params": 99_999},
            "Budget(params=99999): the model has 15147 parameters. Give 0 to 15147.",
        ),
        (
            {"macs": 0.1, "min_per_layer": 2},
            "Budget(macs=0.1): the heads and neurons are 100% of the model's MACs (3833856 of "
            "3833856). With 2 of each in every layer, 1658880 are left: give at least 0.4327 or "
            "1658880.",
        ),
        (
            {"macs": 0.5, "min_per_layer": 5},
            "Budget(macs=0.5, min_per_layer=5): some layer has only 4 heads. Give min_per_layer 0 "
            "to 4.",
        ),
        (
            {"params": 0.5, "kinds": ("kv_head",)},
            "Budget(params=0.5, kinds=('kv_head',)): the model has no key-value heads there. It "
            "has 3 layers, 6 sublayers, 12 heads, 96 neurons: ask for these.",
        ),
        (
            {"params": 0.5, "place": "decoder"},
            "Budget(params=0.5, place='decoder') at 'decoder': the model has no units there. It "
            "has units at: encoder, self. Give one of these, or several joined by dots.",
        ),
        (
            {"latency": 0.5},
            "Budget(latency=0.5): latencies have to be measured first. Give Budget(latency=0.5, "
            "costs=latency_table(model)).",
        ),
    ],
)
def test_a_cost_that_the_model_cannot_have_is_refused_with_the_nearest(fields, message):
    with pytest.raises(hc.BudgetError, match=re.escape(message)):
        hc.Budget(**fields).quotas(UNITS)


def test_the_nearest_cost_that_a_message_names_can_be_met():
    for fields in ({"params": 0.2}, {"macs": 0.1, "min_per_layer": 2}):
        with pytest.raises(hc.BudgetError) as refused:
            hc.Budget(**fields).quotas(UNITS)
        share, number = re.search(r"at least ([\d.]+) or (\d+)", str(refused.value)).groups()
        name = next(iter(fields))
        for amount in (float(share), int(number)):
            decided(bert(), hc.Budget(**{**fields, name: amount}))
        with pytest.raises(hc.BudgetError):
            hc.Budget(**{**fields, name: int(number) - 1}).quotas(UNITS)


def test_query_heads_that_share_keys_go_as_groups():
    message = r"kinds=\('head',\)\): query heads share key-value heads in model.layers.0.self_attn"
    with pytest.raises(hc.BudgetError, match=message):
        hc.Budget(params=0.9, kinds=("head",)).quotas(hc.units(llama()))


@pytest.mark.parametrize(
    ("budget", "asked"),
    [
        (hc.Budget(params=0.6), {"params": 0.6}),
        (hc.Budget(macs=10**6, kinds=("neuron",), length=64, min_per_layer=1),
         {"macs": 10**6, "kinds": ["neuron"], "length": 64, "min_per_layer": 1}),
        (hc.Budget(macs=0.5, place="cross"), {"macs": 0.5, "place": "cross"}),
    ],
)  # fmt: skip
def test_a_cost_describes_what_was_asked_and_no_more(budget, asked):
    assert budget.describe() == asked
    assert hc.Budget(**budget.describe()) == budget


def test_a_fraction_means_what_is_written():
    (quota,) = hc.Budget(macs=0.29).quotas(UNITS)
    whole = quota.whole
    assert quota.target == 29 * whole // 100


def test_a_session_has_scores_for_its_own_budget_only():
    with hc.attach(bert(), hc.DSP(), hc.Budget(params=0.8), num_steps=1) as session:
        half, less = session.decisions([hc.Budget(params=0.5), hc.Budget(params=0.4)])
        assert half.provenance["cost"]["reached"] > less.provenance["cost"]["reached"]
        with pytest.raises(hc.BudgetError, match="the session has scores for"):
            session.decisions([hc.Budget(heads=3)])
