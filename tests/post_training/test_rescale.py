"""Scales are the least-squares solution, sublayer by sublayer."""

import copy

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

import headcount as hc
from cases import TINY, batch, bert, keep_decision, llama, with_cross_attention
from headcount.gates.attach import Gates, has_gates
from headcount.maths.scales import contributions, fit_scales
from headcount.post_training.rescale import counted_tokens
from headcount.zoo.decisions import random_decision
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.tiny import tiny_model
from reference.least_squares import tuned

BERT = {
    f"bert.encoder.layer.{i}.{part}output.dense": (
        f"bert.encoder.layer.{i}.{part}output.LayerNorm",
        "input",
    )
    for i in range(3)
    for part in ("attention.", "")
}


def in_layers(layers, *places):
    """(projection, module with the sum, side) of a layer's sublayers, for several layers."""
    return {
        f"{layer}.{gate}": (f"{layer}.{module}".rstrip("."), side)
        for layer in layers
        for gate, module, side in places
    }


LLAMA = in_layers(
    [f"model.layers.{i}" for i in range(3)],
    ("self_attn.o_proj", "post_attention_layernorm", "input"),
    ("mlp.down_proj", "", "output"),
)
GPT2 = in_layers(
    [f"transformer.h.{i}" for i in range(2)],
    ("attn.c_proj", "ln_2", "input"),
    ("mlp.c_proj", "", "output"),
)
DISTILBERT = in_layers(
    [f"distilbert.transformer.layer.{i}" for i in range(2)],
    ("attention.out_lin", "sa_layer_norm", "input"),
    ("ffn.lin2", "output_layer_norm", "input"),
)
CASES = {
    "bert": (bert, BERT),
    "llama": (llama, LLAMA),
    "gpt2": (lambda: tiny_model("gpt2"), GPT2),
    "distilbert": (lambda: tiny_model("distilbert"), DISTILBERT),
}
"""How a model is made, and where the output of each projection has been added, in order."""


def batches_of(num=3):
    """With padding at the end of some examples."""
    generator = Generator().manual_seed(0)
    found = []
    for _ in range(num):
        ids = torch.randint(5, 32, (3, 7), generator=generator)
        mask = torch.ones_like(ids)
        mask[-1, 4:] = 0
        found.append({"input_ids": ids, "attention_mask": mask})
    return found


def masked_output(model, decision, scales, inputs):
    with torch.no_grad(), hc.masked(model, decision, scales):
        return model(**inputs).logits


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        *((name, ("head", "neuron")) for name in CASES),
        ("llama", ("kv_head", "neuron")),
        ("bert", ("neuron",)),
    ],
)
def test_the_scales_are_those_of_an_explicit_least_squares_problem(name, kinds):
    make, places = CASES[name]
    model = make().double().eval()
    units = hc.units(model, *kinds)
    decision = random_decision(units, seed=3)
    scales = hc.rescale(model, decision, batches_of(), damping=0.05, largest=1e9)
    gates = {site.gate for site in units.sites}
    order = {gate: at for gate, at in places.items() if gate in gates}
    keep = decision.keep(units)
    slow = tuned(model, units, keep, batches_of(), order, damping=0.05)
    torch.testing.assert_close(scales, slow, atol=1e-8, rtol=1e-8)
    assert torch.equal(scales != 0, keep)
    assert (scales[keep] - 1).abs().max() > 0.01


def test_a_unit_takes_over_from_its_twin():
    """Of two equal rows one goes: the other counts double, and nothing is lost."""
    model = bert().double()
    keep = torch.ones(96, dtype=torch.bool)
    for index, layer in enumerate(model.bert.encoder.layer):
        with torch.no_grad():
            layer.intermediate.dense.weight[7] = layer.intermediate.dense.weight[2]
            layer.intermediate.dense.bias[7] = layer.intermediate.dense.bias[2]
            layer.output.dense.weight[:, 7] = layer.output.dense.weight[:, 2]
        keep[32 * index + 7] = False
    units = hc.units(model, "neuron")
    decision = hc.Decision.of(units, keep, keep.double(), {})
    scales = hc.rescale(model, decision, batches_of(), damping=1e-12)
    assert scales.view(3, 32)[:, 2].tolist() == pytest.approx([2] * 3, abs=1e-4)
    dense = model(**batch()).logits
    torch.testing.assert_close(masked_output(model, decision, scales, batch()), dense)
    assert not torch.allclose(masked_output(model, decision, None, batch()), dense, atol=1e-5)


def test_nothing_removed_leaves_all_scales_at_one():
    model = bert().double()
    decision = keep_decision(model, torch.ones(12, dtype=torch.bool))
    assert hc.rescale(model, decision, batches_of()).tolist() == pytest.approx([1] * 12, abs=1e-12)


@pytest.mark.parametrize("kind", ["head", "neuron"])
@pytest.mark.parametrize(
    "model_type", ["bert", "gpt2", "t5", "bart", "gemma2", "qwen3", "vit", "swin", "clip"]
)
def test_the_output_is_nearest_to_that_of_the_dense_model(model_type, kind):
    """Where one sublayer alone is pruned: no other scales are better, nearby or at one."""
    model = tiny_model(model_type).double().eval()
    inputs = [
        {name: x.double() if x.is_floating_point() else x for name, x in given.items()}
        for given in (dummy_inputs(model, batch=4, seed=seed) for seed in range(3))
    ]
    for each in inputs:
        each.pop("attention_mask", None)
    site = hc.units(model, kind).sites[-1]
    units = hc.UnitTable(sites=(site,))
    decision = random_decision(units, seed=1)
    scales = hc.rescale(model, decision, inputs, damping=1e-12, largest=1e9)
    least = distance(model, site.gate, decision, scales, inputs)
    assert least < distance(model, site.gate, decision, None, inputs)
    for seed in range(3):
        noise = torch.randn(len(scales), generator=Generator().manual_seed(seed)).double()
        other = scales + 0.01 * noise * decision.keep(units)
        assert least < distance(model, site.gate, decision, other, inputs)


def distance(model, gate, decision, scales, inputs):
    """From the dense model, squared, at the output of a projection."""
    seen = []
    hook = model.get_submodule(gate).register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        for each in inputs:
            model(**each)
            with hc.masked(model, decision, scales):
                model(**each)
    hook.remove()
    return sum((a - b).square().sum() for a, b in zip(seen[::2], seen[1::2], strict=True)).item()


def test_layers_that_share_their_weights_share_their_scales():
    """ALBERT's layers are one module, called several times."""
    model = tiny_model("albert").double().eval()
    decision = random_decision(hc.units(model, "head", "neuron"), seed=1)
    scales = hc.rescale(model, decision, [dummy_inputs(model, batch=4)])
    assert torch.equal(scales != 0, decision.keep(hc.units(model, "head", "neuron")))
    assert (scales[scales != 0] - 1).abs().min() > 0


@pytest.mark.parametrize("make", [bert, lambda: tiny_model("opt")], ids=["bert", "opt"])
def test_padding_does_not_count(make):
    """OPT puts the tokens of all examples one below the other."""
    model = make().double().eval()
    decision = random_decision(hc.units(model, "head", "neuron"), seed=2)
    other = copy.deepcopy(batches_of())
    for each in other:
        each["input_ids"][each["attention_mask"] == 0] = 11
    one, two = (hc.rescale(model, decision, data) for data in (batches_of(), other))
    torch.testing.assert_close(one, two, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("shape", "counted"),
    [
        ((2, 3, 8), [[True, True, True], [True, False, False]]),
        ((6, 8), [True, True, True, True, False, False]),
        ((2, 4, 8), [[True] * 4] * 2),  # a model that adds tokens, or rounds lengths up
        ((3, 2, 8), [[True] * 2] * 3),
        ((5, 8), [True] * 5),  # tokens that were picked out: experts
    ],
)
def test_which_tokens_count_is_said_by_a_mask_of_their_shape(shape, counted):
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert counted_tokens(mask, torch.zeros(shape)).tolist() == counted
    every = torch.ones(shape[:-1], dtype=torch.bool).tolist()
    for nothing in (None, mask[:, None, None], mask[0]):
        assert counted_tokens(nothing, torch.zeros(shape)).tolist() == every


def test_padding_of_the_encoder_does_not_hide_tokens_of_the_decoder():
    """Both have seven tokens; only the encoder's last three are padding."""
    model = with_cross_attention().double()
    decision = random_decision(hc.units(model, "head").at("decoder"), seed=2)
    ids = batches_of(1)[0]["input_ids"]
    data = {**batches_of(1)[0], "decoder_input_ids": ids}
    plain = hc.rescale(model, decision, [data])
    marked = {**data, "decoder_attention_mask": torch.ones_like(ids)}
    torch.testing.assert_close(plain, hc.rescale(model, decision, [marked]), atol=1e-12, rtol=0)


def test_modules_and_layers_keep_scales_of_one_and_zero():
    model = bert().double()
    decision = random_decision(hc.units(model), seed=5)
    assert any(not any(site.keep) for site in decision.sites if site.kind == "sublayer")
    scales = hc.rescale(model, decision, batches_of())
    for site, span in zip(decision.sites, hc.units(model).slices, strict=True):
        if site.kind in ("sublayer", "layer"):
            assert scales[span].tolist() == [float(kept) for kept in site.keep]


def test_of_heads_and_groups_together_the_heads_are_scaled():
    """A group's scale on top of its heads' would say nothing new."""
    model = llama().double()
    units = hc.units(model, "kv_head", "head")
    decision = random_decision(units, seed=2)
    scales = hc.rescale(model, decision, batches_of())
    alone = hc.Decision(sites=tuple(site for site in decision.sites if site.kind == "head"))
    expected = hc.rescale(model, alone, batches_of())
    for site, span in zip(units.sites, units.slices, strict=True):
        if site.kind == "kv_head":
            assert set(scales[span].tolist()) <= {0.0, 1.0}
    found = [scales[p] for s, p in zip(units.sites, units.slices, strict=True) if s.kind == "head"]
    torch.testing.assert_close(torch.cat(found), expected, atol=1e-10, rtol=0)


def test_too_large_scales_are_left_at_one():
    """Ones for the sublayer, and those behind it are tuned all the same."""
    model = bert().double()
    with torch.no_grad():  # the heads of layer 1 that stay add a hundredth of what is missing
        model.bert.encoder.layer[1].attention.output.dense.weight[:, :12] *= 0.01
    keep = torch.tensor([1, 1, 0, 0] * 3, dtype=torch.bool)
    lines = []
    found = hc.rescale(
        model, keep_decision(model, keep), batches_of(), damping=1e-9, report=lines.append
    )
    kept = found[keep].view(3, 2)
    assert kept[1].tolist() == [1, 1]
    assert (kept[[0, 2]] - 1).abs().min() > 1e-4
    assert [line.endswith("too large; left at one") for line in lines] == [False, True, False]
    assert lines[0].startswith("bert.encoder.layer.0.attention.self: scales ")


def test_the_model_is_left_alone():
    model = bert().train()
    model.bert.embeddings.eval()
    modes = [module.training for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    hc.rescale(model, random_decision(hc.units(model, "head"), seed=1), batches_of())
    assert [module.training for module in model.modules()] == modes
    assert not has_gates(model)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_single_precision_gives_nearly_the_same():
    model = bert()
    decision = random_decision(hc.units(model, "head", "neuron"), seed=2)
    exact = hc.rescale(copy.deepcopy(model).double(), decision, batches_of(), damping=0.1)
    found = hc.rescale(model, decision, batches_of(), damping=0.1)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, exact, atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_solves_the_problem_of_single(dtype, caplog):
    """No residual terms are lost to rounding, and the model has its own weights again."""
    model = bert().to(dtype)
    before = copy.deepcopy(model.state_dict())
    decision = random_decision(hc.units(model, "head", "neuron"), seed=2)
    found = hc.rescale(model, decision, batches_of(), damping=0.1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {value.dtype for value in model.parameters()} == {dtype}
    expected = hc.rescale(model.float(), decision, batches_of(), damping=0.1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert not caplog.records


def test_terms_that_are_left_out_are_logged(caplog):
    """Gemma 2 normalises the output of a sublayer before it is added."""
    model = tiny_model("gemma2").eval()
    decision = random_decision(hc.units(model, "neuron"), seed=1)
    hc.rescale(model, decision, [dummy_inputs(model, batch=4)])
    assert "for 2 of 2 sublayers no sum with the residual stream was found" in caplog.text


def test_a_generator_of_batches_will_do():
    model = bert().double()
    decision = random_decision(hc.units(model, "head"), seed=1)
    expected = hc.rescale(model, decision, batches_of())
    assert torch.equal(hc.rescale(model, decision, (b for b in batches_of())), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batches": []}, hc.TrainingError, r"rescale\(batches=\[\]\).*Give batches"),
        ({"damping": 0.0}, hc.BudgetError, r"rescale\(damping=0.0\): give a positive number"),
        ({"largest": -1.0}, hc.BudgetError, r"rescale\(largest=-1.0\): give a positive number"),
    ],
    ids=["batches", "damping", "largest"],
)
def test_what_cannot_be_is_refused(arguments, error, message):
    model = bert()
    decision = random_decision(hc.units(model, "head"), seed=1)
    with pytest.raises(error, match=message):
        hc.rescale(model, decision, **{"batches": batches_of(), **arguments})


def test_a_model_with_gates_is_refused():
    model = bert()
    decision = random_decision(hc.units(model, "head"), seed=1)
    with hc.masked(model, decision), pytest.raises(hc.PruningError, match="has gates already"):
        hc.rescale(model, decision, batches_of())


def test_a_model_that_is_broken_is_refused():
    model = bert()
    decision = random_decision(hc.units(model, "head"), seed=1)
    with torch.no_grad():
        model.bert.encoder.layer[0].attention.self.value.weight[:] = float("nan")
    with pytest.raises(hc.TrainingError, match=r"layer\.0\.attention\.output\.dense is not finite"):
        hc.rescale(model, decision, batches_of())
    assert not has_gates(model)


def test_another_model_is_refused():
    decision = random_decision(hc.units(bert(), "head"), seed=1)
    other = transformers.BertModel(transformers.BertConfig(**{**TINY, "num_attention_heads": 2}))
    with pytest.raises(hc.DecisionError, match="about another model"):
        hc.rescale(other, decision, batches_of())


@settings(max_examples=30)
@given(
    units=st.integers(1, 5),
    width=st.integers(1, 4),
    outputs=st.integers(1, 4),
    tokens=st.integers(1, 9),
    seed=st.integers(0, 9999),
)
def test_products_of_contributions_need_second_moments_only(units, width, outputs, tokens, seed):
    generator = Generator().manual_seed(seed)
    x = torch.randn(tokens, units * width, generator=generator, dtype=torch.float64)
    w = torch.randn(units * width, outputs, generator=generator, dtype=torch.float64)
    each = torch.einsum("tuw,uwo->uto", x.unflatten(1, (units, width)), w.unflatten(0, (units, -1)))
    flat = each.flatten(1)
    found = contributions(x.T @ x, w, width=width)
    torch.testing.assert_close(found, flat @ flat.T, atol=1e-10, rtol=1e-10)


@settings(max_examples=30)
@given(
    st.integers(1, 6), st.integers(1, 9), st.sampled_from([1e-6, 0.1, 10.0]), st.integers(0, 9999)
)
def test_fitted_scales_are_least_squares(units, rows, damping, seed):
    generator = Generator().manual_seed(seed)
    a = torch.randn(rows, units, generator=generator, dtype=torch.float64)
    b = torch.randn(rows, generator=generator, dtype=torch.float64)
    found = fit_scales(a.T @ a, a.T @ (b - a.sum(1)), damping=damping)
    weight = (damping * a.square().sum(0).mean()).sqrt()
    stacked = torch.cat([a, weight * torch.eye(units)])
    right = torch.cat([b, weight * torch.ones(units)])
    expected = torch.linalg.lstsq(stacked, right[:, None], driver="gelsd").solution[:, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_without_contributions_scales_are_one():
    assert fit_scales(torch.zeros(2, 2), torch.zeros(2), damping=0.1).tolist() == [1, 1]


def test_gates_of_scales_are_what_masked_sets():
    model = bert().double()
    units = hc.units(model, "head")
    decision = keep_decision(model, torch.arange(12) % 2 == 0)
    gates = Gates(model, units)
    gates.value = 1.5 * decision.keep(units)
    expected = model(**batch()).logits
    gates.remove()
    scales = torch.full((12,), 1.5)
    assert torch.equal(masked_output(model, decision, scales, batch()), expected)


def test_one_batch_or_no_decision_is_refused():
    model = bert()
    decision = hc.decide(model, hc.Random(), hc.Budget(heads=5))
    with pytest.raises(hc.ArgumentError, match=r"rescale\(batches=dict\): this is one batch"):
        hc.rescale(model, decision, batch())
    with pytest.raises(hc.ArgumentError, match=r"rescale\(decision=Budget\): a Budget is no"):
        hc.rescale(model, hc.Budget(heads=5), [batch()])
    with pytest.raises(hc.ArgumentError, match=r"rescale\(model='bert'\): a str is no Module"):
        hc.rescale("bert", decision, [batch()])
    with pytest.raises(hc.ArgumentError, match=r"rescale\(batches=None\): a NoneType is no Iter"):
        hc.rescale(model, decision, None)
