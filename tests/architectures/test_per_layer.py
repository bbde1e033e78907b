"""What configurations say of single layers, when some go and the others move together."""

import copy
import re
from types import SimpleNamespace

import pytest
import torch
import transformers
from transformers import GenerationConfig

import headcount as hc
from headcount.architectures.per_layer import (
    renumbered,
    renumbered_around,
    renumbered_generation,
)
from headcount.zoo.decisions import nested

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_hidden_layers": 6,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "attn_implementation": "eager",
}
LISTS = {"layer_types": ["sliding_attention", "full_attention", "full_attention"] * 2}
IDS = torch.arange(1, 17).view(2, 8)
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
VISION |= {"num_hidden_layers": 6, "image_size": 16, "patch_size": 4}


def config(name: str, **more) -> transformers.PreTrainedConfig:
    return getattr(transformers, f"{name}Config")(**{**SHAPE, **more})


def sam() -> transformers.PreTrainedModel:
    shape = {**VISION, "output_channels": 8, "mlp_dim": 48, "window_size": 2}
    return transformers.SamVisionModel(
        transformers.SamVisionConfig(**shape, global_attn_indexes=[1, 2, 5])
    )


def backbone() -> transformers.PreTrainedModel:
    return transformers.Dinov2Backbone(
        transformers.Dinov2Config(**VISION, out_indices=[1, 4, 6], mlp_ratio=2)
    )


MODELS = {
    "gemma 2": lambda: transformers.Gemma2ForCausalLM(config("Gemma2", **LISTS, sliding_window=3)),
    "gemma 3": lambda: transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(**SHAPE, sliding_window=3, sliding_window_pattern=3)
    ),
    "smollm 3": lambda: transformers.SmolLM3ForCausalLM(
        config("SmolLM3", no_rope_layers=[1, 0, 0, 1, 1, 0])
    ),
    "qwen 2 with windows": lambda: transformers.Qwen2ForCausalLM(
        config("Qwen2", use_sliding_window=True, sliding_window=3, max_window_layers=3)
    ),
    "qwen 2, some layers of experts": lambda: transformers.Qwen2MoeForCausalLM(
        config(
            "Qwen2Moe",
            mlp_only_layers=[1, 4],
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            experts_implementation="eager",
        )
    ),
    "sam": sam,
    "backbone": backbone,
}


def layers_of(model) -> tuple[str, int]:
    """Where its layers are, and how many."""
    name = next(s.module for s in hc.units(model, "layer").sites).rpartition(".")[0]
    return name, len(model.get_submodule(name))


def without(model, kept: list[int]) -> hc.Decision:
    units = hc.units(model)
    keeps = {site.key: torch.ones(site.num_units, dtype=torch.bool) for site in units.sites}
    for (name, kind), keep in keeps.items():
        if kind == "layer" and int(name.rpartition(".")[2]) not in kept:
            keep[:] = False
    return nested(units, keeps)


def moved_together(model, kept: list[int]) -> transformers.PreTrainedModel:
    """The stock class with fewer layers, and the weights of those that stay."""
    name, num_layers = layers_of(model)
    small = copy.deepcopy(model.config)
    for key, value in renumbered(model.config, kept, num_layers).items():
        setattr(small, key, value)
    small.num_hidden_layers = len(kept)
    small = type(small).from_dict(small.to_dict())
    small._attn_implementation = model.config._attn_implementation
    small._experts_implementation = "eager"
    stock, weights = type(model)(small).double().eval(), {}
    for key, value in model.state_dict().items():
        found = re.match(rf"{re.escape(name)}\.(\d+)\.", key)
        if found is None:
            weights[key] = value
        elif int(found[1]) in kept:
            new = f"{name}.{kept.index(int(found[1]))}."
            weights[new + key.removeprefix(found[0])] = value
    stock.load_state_dict(weights, strict=True)
    return stock


@pytest.mark.parametrize("kept", [[0, 2, 5], [1, 3, 4, 5]], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_layers_that_move_together_compute_what_masking_the_others_does(name, kept):
    model = MODELS[name]().double().eval()
    if name in {"backbone", "sam"}:
        generator = torch.Generator().manual_seed(0)
        inputs = {"pixel_values": torch.randn(1, 3, 16, 16, generator=generator).double()}
    else:
        inputs = {"input_ids": IDS}
    with torch.no_grad(), hc.masked(model, without(model, kept)):
        wanted = model(**inputs)[0]
    stock = moved_together(model, kept)
    with torch.no_grad():
        found = stock(**inputs)[0]
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)


def test_every_list_and_number_of_a_configuration():
    found = renumbered(config("Qwen2", max_window_layers=4, **LISTS), [0, 1, 3, 5], 6)
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    assert found == {"layer_types": kinds, "max_window_layers": 3}
    deepseek = transformers.DeepseekV3Config(num_hidden_layers=6, first_k_dense_replace=3)
    assert renumbered(deepseek, [0, 2, 4], 6)["first_k_dense_replace"] == 2
    assert renumbered(config("Llama"), [0, 1], 6) == {}
    neo = transformers.GPTNeoConfig(num_layers=4, attention_types=[[["global", "local"], 2]])
    short = renumbered(neo, [0, 2, 3], 4)["attention_types"]
    assert transformers.GPTNeoConfig(num_layers=3, attention_types=short).attention_layers == [
        "global",
        "global",
        "local",
    ]
    vision = transformers.Dinov2Config(num_hidden_layers=6, out_indices=[1, 4, 6])
    assert renumbered(vision, [0, 3, 4], 6)["_out_indices"] == [1, 2, 3]
    assert renumbered(vision, [0, 3, 4], 6)["_out_features"] == ["stage1", "stage2", "stage3"]


@pytest.mark.parametrize(
    ("made", "kept", "why"),
    [
        (lambda: config("GPT2", n_layer=6, scale_attn_by_inverse_layer_idx=True), [0, 1], "scale_"),
        (lambda: config("Jamba"), [0, 1], "_layer_period="),
        (
            lambda: transformers.Dinov2Config(num_hidden_layers=6, out_indices=[2, 3]),
            [0, 5],
            "_out",
        ),
        (lambda: transformers.Dinov2Config(num_hidden_layers=6, out_indices=[4]), [0, 1], "last"),
        (lambda: transformers.AlbertConfig(num_hidden_layers=6), [0, 1], "model_type='albert'"),
        (transformers.SwinConfig, [0, 1], "depths"),
        (transformers.Gemma3nTextConfig, [0, 1, 34], "intermediate_size=.*has 35 entries"),
        (lambda: config("Llama", odd_layers=[1, 3]), [0, 1], "odd_layers"),
        (
            lambda: config("Llama", per_layer_config={1: {"intermediate_size": 8}}),
            [0, 1],
            "per_layer_config=",
        ),
        (lambda: config("Llama", num_kv_shared_layers=2), [0, 1], "num_kv_shared_layers=2"),
    ],
)
def test_what_cannot_follow_is_refused(made, kept, why):
    given = made()
    before = given.to_dict()
    with pytest.raises(hc.ArchitectureError, match=why):
        renumbered(given, kept, 6)
    assert given.to_dict() == before


def llava(**more) -> transformers.LlavaConfig:
    return transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION), text_config=config("Llama"), **more
    )


@pytest.mark.parametrize(
    ("layer", "kept", "new"),
    [
        (-2, [0, 1, 3, 5], -2),
        (-2, [0, 2, 4, 5], -2),
        (-3, [0, 1, 3, 4, 5], -3),
        (-3, [0, 4, 5], -3),
        (-4, [0, 2, 3, 4, 5], -4),
        (-5, [0, 2, 3, 5], -4),
        (3, [0, 2, 5], 2),
        (0, [0, 2, 5], 0),
        (-1, [0, 2], -1),
        ([-2, 1, 6], [0, 1, 4, 5], [-2, 1, 4]),
    ],
)
def test_the_hidden_state_that_a_language_model_reads(layer, kept, new):
    whole = llava(vision_feature_layer=layer)
    changes = renumbered_around(whole, whole.vision_config, kept, 6)
    found = changes[0][1]["vision_feature_layer"] if changes else layer
    assert found == new
    assert [config for config, _ in changes] in ([], [whole])
    assert renumbered_around(whole, whole.text_config, kept, 6) == []


def test_a_hidden_state_that_would_be_the_last_one():
    whole = llava(vision_feature_layer=-2)
    with pytest.raises(hc.ArchitectureError, match=r"vision_feature_layer=.*last hidden state"):
        renumbered_around(whole, whole.vision_config, [0, 1, 2], 6)
    odd = llava(target_layer_ids=[1, 2])
    with pytest.raises(hc.ArchitectureError, match="target_layer_ids"):
        renumbered_around(odd, odd.vision_config, [0, 1, 2], 6)


def test_a_tower_beside_one_whose_layers_have_settings_of_their_own():
    """Such a configuration does not compare with another: asking for its numbers is an error."""
    whole = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=transformers.Gemma4TextConfig(),
        vision_feature_layer=-2,
    )
    assert renumbered(whole, [0, 1, 3, 5], 6) == {}
    assert renumbered_around(whole, whole.vision_config, [0, 1, 3, 5], 6) == []


def test_images_that_enter_the_text_after_its_first_layers():
    whole = transformers.Qwen3VLConfig()
    vision, text = whole.vision_config, whole.text_config
    vision.deepstack_visual_indexes = [1, 3, 4]
    assert renumbered(vision, [0, 1, 3, 4], 6) == {"deepstack_visual_indexes": [1, 2, 3]}
    with pytest.raises(hc.ArchitectureError, match="two of the places"):
        renumbered(vision, [0, 1, 3, 5], 6)
    assert renumbered_around(whole, text, [0, 1, 2, 5], 6) == []
    with pytest.raises(hc.ArchitectureError, match="images enter"):
        renumbered_around(whole, text, [0, 2, 3, 4], 6)


def test_generation_configurations():
    given = GenerationConfig(alignment_heads=[[0, 1], (2, 3), [-1, 0], [9, 9], "odd"])
    found = renumbered_generation(given, [0, 2, 3], 4)
    assert found == {"alignment_heads": [[0, 1], [1, 3], [2, 0], [9, 9], "odd"]}
    assert renumbered_generation(GenerationConfig(alignment_heads=[[1, 1]]), [0, 2], 3) == {
        "alignment_heads": None
    }
    early = SimpleNamespace(assistant_early_exit=4, dola_layers=[1, 2, 6])
    found = renumbered_generation(early, [0, 2, 5], 6)
    assert found == {"assistant_early_exit": 2, "dola_layers": [1, 3]}
    assert renumbered_generation(GenerationConfig(), [0], 6) == {}
