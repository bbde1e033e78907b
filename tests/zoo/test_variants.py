import pytest
import torch

from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.tiny import CannotBuild, auto_class_name, tiny_config, tiny_model
from headcount.zoo.variants import TYPES, named, split_names, switches_of, type_of, variants


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("falcon", {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}),
        ("beit", {"use_relative_position_bias": True}),
        ("stablelm", {"qk_layernorm": True}),
        (
            "bert",
            {"is_decoder": True, "add_cross_attention": True, "tie_word_embeddings": False},
        ),
        ("wav2vec2-conformer", {"position_embeddings_type": "rotary"}),
        ("wav2vec2-conformer", {"position_embeddings_type": None}),
        ("t5", {"feed_forward_proj": "gated-gelu"}),
        ("llama", {"num_attention_heads": 8, "num_key_value_heads": 4}),
        ("gemma", {"num_key_value_heads": 1, "head_dim": 16}),
        ("mpt", {"attn_config": {"clip_qkv": 0.5, "softmax_scale": 0.5}}),
        ("dinov2", {"use_swiglu_ffn": True}),
    ],
)
def test_switches_of_published_configurations(model_type, expected):
    found = [switches_of(name) for name in variants(tiny_config(model_type))]
    assert expected in found
    assert len(found) == len({named(model_type, switches) for switches in found})


def test_names_say_what_is_set_and_are_read_again():
    for model_type, options in TYPES.items():
        for switches in options:
            name = named(model_type, switches)
            assert (type_of(name), switches_of(name)) == (model_type, switches)
    names = [named(kind, options[-1]) for kind, options in TYPES.items()]
    assert list(split_names(", ".join(names))) == names


@pytest.mark.parametrize("name", ["t5[", "t5[a=1", "t5[1]", "t5[a=1]]", "t5[**x]"])
def test_names_that_say_nothing(name):
    with pytest.raises(ValueError, match="write a variant as"):
        switches_of(name)


def test_a_composite_model_has_the_variants_of_its_parts_only():
    assert variants(tiny_config("llava")) == ()


def test_a_variant_is_built_and_its_switches_are_in_force():
    model = tiny_model("bert[is_decoder=True,add_cross_attention=True]")
    assert auto_class_name("bert[is_decoder=True]") == "AutoModelForCausalLM"
    inputs = dummy_inputs(model)
    with torch.no_grad():
        first = model(**inputs).logits
        other = model(**{**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"] + 1})
    assert not torch.equal(first, other.logits)


def test_what_transformers_refuses_cannot_be_built():
    with pytest.raises(CannotBuild):
        tiny_model("llama[num_attention_heads=5]")
    with pytest.raises(CannotBuild, match="nonesuch"):
        tiny_config("nonesuch[a=1]")
