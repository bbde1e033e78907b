"""Layers go that somebody outside of them knows by number: hidden states that are read, lists."""

import pytest
import torch
import transformers

import headcount as hc
from headcount.zoo.decisions import nested
from headcount.zoo.outputs import equal_bits, largest_difference
from headcount.zoo.tiny import tiny_model

VISION = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
VISION |= {"num_hidden_layers": 4, "image_size": 16, "patch_size": 4}
TEXT = {**VISION, "vocab_size": 40, "num_key_value_heads": 2, "pad_token_id": 0}
PIXELS = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
SOUND = torch.randn(1, 800, generator=torch.Generator().manual_seed(0)).double()
IDS = torch.arange(1, 9)[None]


def weighted_sum():
    config = transformers.Wav2Vec2Config(
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=4,
        num_hidden_layers=4,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        classifier_proj_size=8,
        use_weighted_layer_sum=True,
        num_labels=3,
    )
    model = transformers.Wav2Vec2ForSequenceClassification(config)
    torch.nn.init.normal_(model.layer_weights)
    return model, {"input_values": SOUND}


def llava(layer):
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=transformers.LlamaConfig(**TEXT),
        image_token_index=39,
        vision_feature_layer=layer,
    )
    ids = torch.cat([torch.full((1, 16), 39), IDS], 1)
    model = transformers.LlavaForConditionalGeneration(config)
    return model, {"input_ids": ids, "pixel_values": PIXELS}


def backbone():
    config = transformers.Dinov2Config(**VISION, mlp_ratio=2, out_indices=[1, 2, 4])
    return transformers.Dinov2Backbone(config), {"pixel_values": PIXELS}


def sliding():
    kinds = ["sliding_attention", "full_attention"] * 2
    config = transformers.Gemma2Config(**TEXT, head_dim=8, sliding_window=3, layer_types=kinds)
    return transformers.Gemma2ForCausalLM(config), {"input_ids": IDS}


def without_positions():
    config = transformers.SmolLM3Config(**TEXT, no_rope_layers=[1, 0, 1, 0])
    return transformers.SmolLM3ForCausalLM(config), {"input_ids": IDS}


MODELS = {
    "weighted sum of hidden states": weighted_sum,
    "a hidden state from the end": lambda: llava(-2),
    "several hidden states": lambda: llava([-3, 1]),
    "features of a backbone": backbone,
    "a kind for each layer": sliding,
    "positions in some layers": without_positions,
}


@pytest.mark.parametrize("gone", [{1}, {0, 3}], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_masked_is_cut_is_reloaded(name, gone, tmp_path):
    model, inputs = MODELS[name]()
    model = model.double().eval()
    units = hc.units(model)
    keeps = {site.key: torch.ones(site.num_units, dtype=torch.bool) for site in units.sites}
    for site in units.sites:
        if site.kind == "layer" and site.layer in gone:
            keeps[site.key][:] = False
    decision = nested(units, keeps)
    with torch.no_grad(), hc.masked(model, decision):
        wanted = model(**inputs)
    small = hc.cut(model, decision)
    with torch.no_grad():
        found = small(**inputs)
    assert largest_difference(found, wanted) < 1e-10
    small = small.float()
    hc.save(small, tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    inputs = {key: x.float() if x.is_floating_point() else x for key, x in inputs.items()}
    with torch.no_grad():
        assert equal_bits(again(**inputs), small(**inputs))


@pytest.mark.parametrize("stack", ["L_module", "H_module"])
def test_layers_of_a_stack_that_runs_again_with_other_places_in_the_cache(stack):
    model = tiny_model("hrm_text").double()
    units = hc.units(model)
    keeps = {site.key: torch.ones(site.num_units, dtype=torch.bool) for site in units.sites}
    keeps[f"model.{stack}.layers.1", "layer"][:] = False
    decision = nested(units, keeps)
    with torch.no_grad(), hc.masked(model, decision):
        wanted = model(input_ids=IDS)
    with torch.no_grad():
        found = hc.cut(model, decision)(input_ids=IDS)
    assert largest_difference(found, wanted) < 1e-10
