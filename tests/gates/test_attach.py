import pytest
import torch

import headcount as hc
from cases import CLASSIFIERS, batch, bert, llama, with_cross_attention
from headcount.gates.attach import Gates, has_gates


@pytest.mark.parametrize("case", CLASSIFIERS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_gates_of_one_leave_the_model_bit_for_bit_unchanged(case, dtype):
    model = case.make().to(dtype)
    plain = model(**batch()).logits
    gates = Gates(model, hc.units(model, "head"))
    gates.value = torch.ones(12)
    assert torch.equal(model(**batch()).logits, plain)
    gates.remove()
    assert not has_gates(model)


def test_gates_of_an_example_act_on_that_example_alone():
    model = bert().double()
    gates = Gates(model, hc.units(model, "head"))
    rows = torch.rand(3, 12, dtype=torch.float64)
    gates.value = rows
    together = model(**batch()).logits
    for i, row in enumerate(rows):
        gates.value = row
        torch.testing.assert_close(model(**batch()).logits[i], together[i], atol=1e-12, rtol=0)


def test_one_backward_pass_gives_the_gradient_of_each_example():
    model = bert().double()
    gates = Gates(model, hc.units(model, "head"))
    ones = torch.ones(3, 12, dtype=torch.float64, requires_grad=True)
    gates.value = ones
    (together,) = torch.autograd.grad(model(**batch()).logits[:, 0].sum(), ones)
    for i in range(3):
        one = torch.ones(12, dtype=torch.float64, requires_grad=True)
        gates.value = one
        (alone,) = torch.autograd.grad(model(**batch()).logits[i, 0], one)
        torch.testing.assert_close(alone, together[i], atol=1e-12, rtol=0)


def test_a_gate_multiplies_its_own_head_only():
    """Finite differences of the context before the output projection."""
    model = bert().double()
    gates, seen = Gates(model, hc.units(model, "head")), []
    dense = model.bert.encoder.layer[0].attention.output.dense
    dense.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    value = torch.ones(12, dtype=torch.float64)
    value[1] = 0.5
    for gates.value in (torch.ones_like(value), value):
        model(**batch())
    ratio = (seen[1] / seen[0])[0, 0].unflatten(0, (4, 6))
    torch.testing.assert_close(ratio, value[:4, None].expand(4, 6))


@pytest.mark.parametrize("make", [bert, llama, with_cross_attention])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_gates_of_one_at_every_kind_of_unit_leave_the_model_bit_for_bit_unchanged(make, dtype):
    model, inputs = make().to(dtype), batch()
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    plain = model(**inputs).logits
    units = hc.units(model)
    gates = Gates(model, units)
    gates.value = torch.ones(len(units))
    assert torch.equal(model(**inputs).logits, plain)
    gates.remove()
    assert not has_gates(model)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        *((bert, kind) for kind in ("head", "neuron", "sublayer", "layer")),
        *((llama, kind) for kind in ("head", "kv_head", "neuron", "sublayer", "layer")),
    ],
)
def test_gates_of_every_kind_act_on_their_own_example(make, kind):
    """Together as one by one; and the gradient of each gate is that of its example."""
    model = make().double()
    units = hc.units(model, kind)
    gates = Gates(model, units)
    rows = torch.rand(3, len(units), dtype=torch.float64, requires_grad=True)
    gates.value = rows
    together = model(**batch()).logits
    (slopes,) = torch.autograd.grad(together.square().sum(), rows)
    for i in range(3):
        gates.value = rows[i]
        alone = model(**batch()).logits[i]
        torch.testing.assert_close(alone, together[i], atol=1e-12, rtol=0)
        (slope,) = torch.autograd.grad(alone.square().sum(), rows)
        torch.testing.assert_close(slope[i], slopes[i], atol=1e-10, rtol=1e-9)


def test_a_layer_with_a_gate_of_zero_hands_its_input_on():
    model = bert().double()
    gates, seen = Gates(model, hc.units(model, "layer")), []
    gates.value = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    for layer in model.bert.encoder.layer[1:]:
        layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(**batch())
    assert torch.equal(*seen)


def test_a_second_set_of_gates_is_refused():
    model = bert()
    gates = Gates(model, hc.units(model, "head"))
    with pytest.raises(hc.PruningError, match="the model has gates already"):
        Gates(model, hc.units(model, "head"))
    with gates.lifted():
        assert not has_gates(model)
        with gates.lifted():
            assert not has_gates(model)
        assert not has_gates(model)
    assert has_gates(model)
    gates.remove()
    with gates.lifted():
        pass
    assert not has_gates(model)


def test_what_was_attached_before_an_error_can_be_taken_off():
    model = bert()
    gates = Gates(model, hc.units(model, "head"))
    layer = model.bert.encoder.layer[2].attention
    output = layer.output
    with pytest.raises(AttributeError), gates.lifted():
        del layer.output
    layer.output = output
    gates.remove()
    assert not has_gates(model)
