"""What was changed in some layers is refused; what no row describes is named."""

import re
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import headcount as hc
from cases import bert, llama, with_cross_attention
from headcount.zoo.decisions import random_decision
from headcount.zoo.tiny import tiny_model


class Adapted(nn.Module):
    """A linear map with something beside it, as adapters are."""

    def __init__(self, base):
        super().__init__()
        self.base_layer, self.extra = base, nn.Linear(base.in_features, 1)

    def forward(self, x):
        return self.base_layer(x) + self.extra(x)


class Scaled(nn.Linear):
    """A linear map of another class, with the same names."""

    def forward(self, x):
        return 2 * super().forward(x)


class OwnAttention(nn.Module):
    """Attention that no row describes."""

    def __init__(self, base):
        super().__init__()
        self.projections, self.back = nn.Linear(24, 72), nn.Linear(24, 24)


def old_weight_norm(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(module)


CHANGES = {
    "adapted": (Adapted, "Merge an adapter"),
    "another class": (lambda m: Scaled(m.in_features, m.out_features), "it is a Scaled"),
    "pruned": (lambda m: prune.l1_unstructured(m, "weight", amount=0.3), "prune.remove"),
    "pruned bias": (lambda m: prune.random_unstructured(m, "bias", amount=0.3), "prune.remove"),
    "weight norm": (parametrizations.weight_norm, "remove_parametrizations"),
    "orthogonal": (parametrizations.orthogonal, "remove_parametrizations"),
    "old weight norm": (old_weight_norm, "remove_weight_norm"),
    "spectral norm": (nn.utils.spectral_norm, "remove_spectral_norm"),
    "in a row": (lambda m: nn.Sequential(m, nn.Dropout()), "Put the model's own module"),
}
MAPS = ["attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense"]


def change(layer, path, made):
    parent, _, leaf = path.rpartition(".")
    setattr(layer.get_submodule(parent), leaf, made(layer.get_submodule(path)))


@pytest.mark.parametrize("path", MAPS)
@pytest.mark.parametrize("kind", CHANGES)
def test_a_map_that_was_changed_in_one_layer(kind, path):
    model = bert()
    made, message = CHANGES[kind]
    change(model.bert.encoder.layer[1], path, made)
    where = rf"units\(BertForSequenceClassification\): bert\.encoder\.layer\.1.*{message}"
    with pytest.raises(hc.ArchitectureError, match=where):
        hc.units(model)
    with pytest.raises(hc.ArchitectureError):
        hc.decide(model, hc.Random(seed=0), hc.Budget(heads=0.5))


@pytest.mark.parametrize("kind", ["adapted", "pruned", "weight norm"])
@pytest.mark.parametrize("path", MAPS)
def test_a_map_that_was_changed_in_every_layer(kind, path):
    """Else there would be no rows, or no heads, without a word."""
    model = bert()
    for layer in model.bert.encoder.layer:
        change(layer, path, CHANGES[kind][0])
    with pytest.raises(hc.ArchitectureError, match="no plain linear map"):
        hc.units(model, "head")


@pytest.mark.parametrize(
    ("make", "path"), [(llama, "self_attn"), (llama, "mlp"), (lambda: tiny_model("opt"), "fc2")]
)
def test_a_sublayer_that_was_replaced_in_one_layer(make, path):
    model = make()
    layers = (model.model.decoder if hasattr(model.model, "decoder") else model.model).layers
    change(layers[0], path, OwnAttention if path != "fc2" else Adapted)
    with pytest.raises(hc.ArchitectureError, match=r"layers\.0.* (fits no row|no plain linear)"):
        hc.units(model)


def test_maps_that_are_not_cut_may_be_anything():
    model = bert()
    plain = hc.units(model)
    model.classifier = Adapted(model.classifier)
    model.bert.pooler.dense = Adapted(model.bert.pooler.dense)
    prune.l1_unstructured(model.bert.embeddings.word_embeddings, "weight", amount=0.3)
    assert hc.units(model).sites == plain.sites
    _ = model(torch.tensor([[1, 2]]))  # the weight that the pruning hook leaves has a gradient
    small = hc.cut(model, hc.decide(model, hc.Random(seed=0), hc.Budget(heads=5)))
    assert hc.units(small).num("head") == 5


def test_what_was_merged_is_found_again():
    model = bert()
    plain = hc.units(model)
    query = model.bert.encoder.layer[1].attention.self.query
    prune.l1_unstructured(query, "weight", amount=0.3)
    prune.remove(query, "weight")
    assert [site.key for site in hc.units(model).sites] == [site.key for site in plain.sites]
    assert len(hc.units(model)) == len(plain)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bert", ()),
        ("bamba", ()),
        ("recurrent_gemma", ()),
        ("minimax", (r"MiniMaxLightningAttention \(model.layers.1.self_attn\)",)),
        ("gpt_neox_japanese", (r"GPTNeoXJapaneseAttention .*like 'bloom' but with dense_bias",)),
        ("blip", ()),
        ("pegasus_x", (r"PegasusXGlobalLocalAttention \(.* and 1 more\): it takes the width",)),
    ],
)  # fmt: skip
def test_what_no_row_describes_is_named(kind, expected):
    """A model whose own layers differ is cut as far as rows fit."""
    table = hc.units(tiny_model(kind))
    assert len(table.left_out) == len(expected)
    for text, pattern in zip(table.left_out, expected, strict=True):
        assert re.match(pattern, text)
    assert table.only("head").left_out == table.left_out
    assert all(text in repr(table) for text in table.left_out)


def test_code_with_sizes_written_into_it():
    model = bert().eval()
    model.bert.encoder.layer[0] = torch.compile(model.bert.encoder.layer[0], backend="eager")
    with pytest.raises(
        hc.ArchitectureError, match=r"compiled into a module of its own\. Compile i"
    ):
        hc.units(model)
    layers = nn.Sequential(nn.ModuleDict({"layers": nn.Sequential(nn.Linear(2, 2))})["layers"])
    with pytest.raises(hc.ArchitectureError, match=r"was traced or scripted: its sizes are wri"):
        hc.units(torch.fx.symbolic_trace(layers))


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("big_bird[is_decoder=True,add_cross_attention=True]", "BigBirdLayer"),
        ("rembert[is_decoder=True,add_cross_attention=True]", "RemBertLayer"),
        ("roformer[is_decoder=True,add_cross_attention=True]", "RoFormerLayer"),
        ("prophetnet[is_decoder=True,add_cross_attention=True]", "ProphetNetDecoderLayer"),
        ("mvp[use_prompt=True]", "MvpPrompt"),
    ],
)
def test_what_reaches_into_all_heads_is_refused_for_the_whole_model(name, module):
    with pytest.raises(hc.ArchitectureError, match=f" is a {module}: its "):
        hc.units(tiny_model(name))
    assert hc.units(tiny_model(name.partition("[")[0]), "head").num("head")


@pytest.mark.parametrize("name", ["sam2", "sam3_tracker"])
def test_layers_that_hand_two_states_on_are_not_removed(name):
    sites = hc.units(tiny_model(name)).sites
    assert not any("mask_decoder" in site.module for site in sites if site.kind == "layer")
    assert any("mask_decoder" in site.module for site in sites if site.kind == "head")


@pytest.mark.parametrize("decoder", ["RoFormerForCausalLM", "RemBertForCausalLM"])
def test_with_an_encoder_the_caches_are_two(decoder):
    model = with_cross_attention(decoder)
    ids = torch.arange(8, 14)[None]
    drawn = random_decision(hc.units(model).only("head"), seed=0, empty=False)
    settings = {"max_new_tokens": 4, "do_sample": False, "decoder_start_token_id": 1}
    with hc.masked(model, drawn):
        expected = model.generate(ids, **settings)
    assert torch.equal(hc.cut(model, drawn).generate(ids, **settings), expected)
