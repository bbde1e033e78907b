"""WavLM's attention: one function takes all its weights, and heads read shares of the input."""

import pytest
import torch
import transformers
from torch import Tensor, nn

import headcount as hc
from exact import assert_exact, randomised
from headcount.errors import BudgetError, PruningError
from headcount.gates.attach import Gates
from headcount.zoo.decisions import nested
from headcount.zoo.outputs import equal_bits, largest_difference

pytestmark = pytest.mark.filterwarnings(  # stock code gives two kinds of mask
    "ignore:Support for mismatched key_padding_mask"
)

SOUND = torch.randn(2, 900, generator=torch.Generator().manual_seed(0))
MASK = torch.ones(2, 900).long()
MASK[1, 500:] = 0


def wavlm(task: str = "Model", **more: object) -> nn.Module:
    """Random, in float64, with four heads in each of three layers."""
    settings = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "conv_dim": (8, 8),
        "conv_stride": (5, 4),
        "conv_kernel": (10, 8),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 4,
        "num_buckets": 16,
        "max_bucket_distance": 20,
        "classifier_proj_size": 8,
        "num_labels": 3,
        "layerdrop": 0.0,
        "apply_spec_augment": False,
    }
    config = transformers.WavLMConfig(**settings | more)
    return randomised(getattr(transformers, f"WavLM{task}")(config)).double()


def inputs(model: nn.Module) -> dict[str, Tensor]:
    return {"input_values": SOUND.to(next(model.parameters()).dtype), "attention_mask": MASK}


def keeping(model: nn.Module, *heads: list[int]) -> hc.Decision:
    """A decision that keeps these heads, layer by layer."""
    units = hc.units(model, "head")
    chosen = {
        site.key: torch.isin(torch.arange(site.num_units), torch.tensor(stay))
        for site, stay in zip(units.sites, heads, strict=True)
    }
    return nested(units, chosen)


@pytest.mark.parametrize("more", [{}, {"do_stable_layer_norm": True}], ids=["post", "pre"])
@pytest.mark.parametrize("kinds", [("head",), ("sublayer",), ()], ids=["heads", "sublayers", "all"])
def test_masked_equals_cut_twice_over(more, kinds):
    assert_exact(wavlm(**more).float(), inputs, *kinds)


@pytest.mark.parametrize(
    "heads",
    [
        ([1, 3], [0, 2], [2]),  # layers differ, so each has a table of biases of its own
        ([1, 2], [1, 2], [1, 2]),  # and here they share it
        ([], [0, 3], [1]),  # the layer that makes the biases has no head
        ([0], [], []),
        ([], [], []),
    ],
    ids=str,
)
def test_the_heads_that_stay_read_their_own_shares_also_after_reloading(heads, tmp_path):
    model = wavlm("ForSequenceClassification")
    decision = keeping(model, *heads)
    with torch.no_grad():
        with hc.masked(model, decision):
            expected = model(**inputs(model))
        small = hc.cut(model, decision)
        assert largest_difference(expected, small(**inputs(small))) < 1e-10
        small.save_pretrained(tmp_path)
        again = type(small).from_pretrained(tmp_path, dtype=torch.float64)
        assert equal_bits(small(**inputs(small)), again(**inputs(small)))
    assert [site.num_units for site in hc.units(again, "head").sites] == [
        len(stay) for stay in heads if stay
    ]


def test_a_cut_model_is_cut_on_after_reloading(tmp_path):
    model = wavlm()
    first = keeping(model, [0, 1, 3], [1, 2, 3], [0, 2, 3])
    hc.cut(model, first).save_pretrained(tmp_path)
    again = transformers.WavLMModel.from_pretrained(tmp_path, dtype=torch.float64)
    last = hc.cut(again, keeping(again, [1, 2], [0], [2]))
    with torch.no_grad(), hc.masked(model, keeping(model, [1, 3], [1], [3])):
        expected = model(**inputs(model))
    with torch.no_grad():
        assert largest_difference(expected, last(**inputs(last))) < 1e-10


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed again"])
def test_gates_have_the_gradient_that_a_small_step_has(checkpointing):
    model = wavlm("ForSequenceClassification", attention_dropout=0.0, hidden_dropout=0.0)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if checkpointing:  # the other way, reentrant, does not end with stock WavLM either
        enable = getattr(model, "activation_checkpointing_enable", None)
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
        model.train()
    units = hc.units(model, "head", "sublayer", "neuron")
    gates = Gates(model, units)
    labels = {"labels": torch.tensor([0, 2])}

    def loss(value: Tensor) -> Tensor:
        gates.value = value
        return model(**inputs(model), **labels).loss

    value = torch.full((len(units),), 0.7, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(loss(value), value)
    direction = torch.randn(len(units), generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        step = (loss(value + 1e-5 * direction) - loss(value - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close(grad @ direction, step, rtol=1e-6, atol=1e-9)
    for site, span in zip(units.sites, units.slices, strict=True):
        assert grad[span].abs().min() > 0, site.key
    gates.remove()
    assert all("weight" not in vars(module) for module in model.modules())


def test_an_error_in_the_pass_leaves_the_weight_as_it_was():
    model = wavlm()
    gates = Gates(model, hc.units(model, "head"))
    gates.value = torch.zeros(12)
    attention = model.encoder.layers[1].attention
    with pytest.raises(AttributeError):
        attention("no tensor")
    gates.remove()
    assert "weight" not in vars(attention.out_proj)


def test_heads_have_no_gates_for_each_example_and_modules_do():
    model = wavlm()
    gates = Gates(model, hc.units(model, "head"))
    gates.value = torch.ones(2, 12)
    with pytest.raises(PruningError, match=r"one gate for all examples\. Give batches of one"):
        model(**inputs(model))
    gates.remove()
    units = hc.units(model, "sublayer")
    gates = Gates(model, units)
    value = torch.ones(2, len(units), dtype=torch.float64)
    value[1] = 0.5
    with torch.no_grad():
        gates.value = value
        both = model(**inputs(model)).last_hidden_state
        for example in range(2):
            gates.value = value[example]
            alone = model(**inputs(model)).last_hidden_state
            torch.testing.assert_close(both[example], alone[example])
    gates.remove()


def test_maps_are_the_mean_over_the_heads_that_are_left():
    model = wavlm(attn_implementation="eager")
    small = hc.cut(model, keeping(model, [1], [0, 2], []))
    with torch.no_grad():
        maps = small(**inputs(small), output_attentions=True).attentions
    assert [found.shape[1] for found in maps] == [1, 2, 0]
    assert torch.equal(maps[1][:, 0], maps[1][:, 1])
    torch.testing.assert_close(maps[0].sum(-1), torch.ones_like(maps[0].sum(-1)))


def test_heads_are_learned_and_cut_and_their_macs_are_refused():
    model = wavlm("ForSequenceClassification").float()
    batch = inputs(model) | {"labels": torch.tensor([0, 2])}
    with pytest.raises(BudgetError, match="relative positions"):
        hc.decide(model, hc.Random(seed=0), hc.Budget(macs=0.5, kinds=("head",)))
    one = [{name: value[:1] for name, value in batch.items()}]
    decision = hc.decide(model, hc.GradientImportance(), hc.Budget(heads=5), batches=one)
    assert hc.units(hc.cut(model, decision)).num("head") == 5
