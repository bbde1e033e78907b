from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from headcount.zoo.inputs import dummy_inputs, generation_inputs
from headcount.zoo.tiny import (
    CannotBuild,
    auto_class_name,
    model_types,
    tiny_config,
    tiny_model,
)

TYPES = (
    "bert",
    "deberta-v2",
    "gpt2",
    "llama",
    "mamba",
    "mixtral",
    "t5",
    "bart",
    "whisper",
    "vit",
    "swin",
    "clip",
    "wav2vec2",
    "qwen2_vl",
)


def tensors(output) -> list[Tensor]:
    return [value for value in output.values() if isinstance(value, Tensor)]


@pytest.mark.parametrize("model_type", TYPES)
def test_forward_is_finite_and_the_same_again(model_type):
    model = tiny_model(model_type)
    inputs = dummy_inputs(model)
    with torch.no_grad():
        first, second = tensors(model(**inputs)), tensors(model(**inputs))
    assert first
    assert all(x.isfinite().all() for x in first)
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize("model_type", ["llama", "mixtral", "bart", "wav2vec2"])
def test_double_precision(model_type):
    model = tiny_model(model_type).double()
    inputs = dummy_inputs(model)
    floats = [value for value in inputs.values() if value.is_floating_point()]
    assert all(value.dtype == torch.float64 for value in floats)
    with torch.no_grad():
        assert tensors(model(**inputs))[0].dtype == torch.float64


@pytest.mark.parametrize("model_type", ["gpt2", "t5", "whisper"])
def test_generates(model_type):
    model = tiny_model(model_type)
    inputs = generation_inputs(model)
    assert inputs is not None
    assert model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[0] == 2


def test_an_encoder_does_not_generate():
    assert generation_inputs(tiny_model("bert")) is None


def test_padding():
    model = tiny_model("gpt2")
    assert dummy_inputs(model)["attention_mask"].tolist()[1] == [1, 1, 1, 1, 1, 0, 0]
    inputs = generation_inputs(model)
    assert inputs is not None
    assert inputs["attention_mask"].tolist()[1] == [0, 0, 1, 1, 1, 1, 1]


def test_seeds():
    first, again, other = (tiny_model("llama", seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_seed_of_the_process_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    dummy_inputs(tiny_model("bert"))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("model_type", ["bert", "llama", "t5"])
def test_no_parameter_is_constant(model_type):
    for name, parameter in tiny_model(model_type).named_parameters():
        assert parameter.numel() == 1 or parameter.min() < parameter.max(), name


def test_small_settings():
    config = tiny_config("llama")
    assert (config.num_hidden_layers, config.num_attention_heads) == (2, 4)
    assert (config.hidden_size, config.num_key_value_heads, config.head_dim) == (32, 2, 8)
    vision = tiny_config("clip").vision_config
    assert (vision.hidden_size, vision.image_size, vision.patch_size) == (32, 32, 4)


def test_special_tokens_lie_in_the_vocabulary():
    config = tiny_config("gemma3")
    assert config.text_config.vocab_size == 64
    tokens = [config.image_token_index, config.boi_token_index, config.eoi_token_index]
    assert len({*tokens, config.text_config.pad_token_id}) == 4
    assert all(token < 64 for token in tokens)


def test_one_layer_of_each_kind():
    assert tiny_config("gemma2").layer_types == ["sliding_attention", "full_attention"]


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("bert", "AutoModelForMaskedLM"),
        ("gpt2", "AutoModelForCausalLM"),
        ("bart", "AutoModelForSeq2SeqLM"),
        ("whisper", "AutoModelForSpeechSeq2Seq"),
        ("gemma3", "AutoModelForImageTextToText"),
        ("vit", "AutoModel"),
    ],
)
def test_auto_class(model_type, expected):
    assert auto_class_name(model_type) == expected


def test_unknown_type():
    assert "nonesuch" not in model_types()
    with pytest.raises(CannotBuild, match="knows no type 'nonesuch'"):
        tiny_model("nonesuch")


def test_part_without_an_auto_class():
    with pytest.raises(CannotBuild, match="part of other models"):
        auto_class_name("blip_text_model")


@pytest.mark.skipif(find_spec("timm") is not None, reason="timm is installed")
def test_missing_package():
    with pytest.raises(CannotBuild, match="needs the package timm"):
        tiny_model("timm_backbone")
