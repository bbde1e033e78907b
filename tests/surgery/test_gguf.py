"""Models read from GGUF files: packed there, floats once loaded."""

import numpy as np
import pytest
import torch
import transformers

import headcount as hc
from headcount.zoo.decisions import random_decision

LAYERS, HEADS, GROUPS, WIDTH, ROWS, WORDS = 3, 4, 2, 64, 96, 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama in blocks of eight bits, written with the format's own package."""
    gguf = pytest.importorskip("gguf", reason="the package gguf is missing")
    folder = tmp_path_factory.mktemp("gguf")
    writer, numbers = gguf.GGUFWriter(folder / "tiny.gguf", "llama"), np.random.default_rng(0)
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(ROWS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(WORDS)
    shapes = {"token_embd": (WORDS, WIDTH), "output": (WORDS, WIDTH), "output_norm": (WIDTH,)}
    shared = WIDTH * GROUPS // HEADS
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.{name}": shape
            for name, shape in {
                "attn_norm": (WIDTH,),
                "ffn_norm": (WIDTH,),
                "attn_q": (WIDTH, WIDTH),
                "attn_k": (shared, WIDTH),
                "attn_v": (shared, WIDTH),
                "attn_output": (WIDTH, WIDTH),
                "ffn_gate": (ROWS, WIDTH),
                "ffn_up": (ROWS, WIDTH),
                "ffn_down": (WIDTH, ROWS),
            }.items()
        }
    packed = gguf.GGMLQuantizationType.Q8_0
    for name, shape in shapes.items():
        values = numbers.normal(0, 0.3, shape).astype(np.float32)
        if len(shape) == 2:
            blocks = gguf.quants.quantize(values, packed)
            writer.add_tensor(f"{name}.weight", blocks, raw_dtype=packed)
        else:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def read(folder) -> transformers.LlamaForCausalLM:
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file="tiny.gguf", dtype=torch.float32
    ).eval()


@pytest.mark.parametrize(
    ("kind", "in_place"),
    [("head", True), ("kv_head", False), ("neuron", False), ("sublayer", False), ("layer", True)],
)
def test_a_model_read_from_gguf_is_cut_and_saved(kind, in_place, folder, tmp_path):
    model, words = read(folder), torch.arange(1, 9)[None]
    kinds = ("kv_head", "head") if kind == "kv_head" else (kind,)
    units = hc.units(model, *(kinds if kind not in ("sublayer", "layer") else ()))
    decision = random_decision(units, seed=3)
    with torch.no_grad(), hc.masked(model, decision):
        wanted = model(words).logits
    small = hc.cut(model, decision, in_place=in_place)
    small.save_pretrained(tmp_path / "plain")
    hc.save(small, tmp_path / "saved")
    with torch.no_grad():
        found = small(words).logits
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
        for name in ("plain", "saved"):
            again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name).eval()
            assert torch.equal(again(words).logits, found)
            assert "quantization_config" not in vars(again.config)
    if not in_place:  # the model that was cut still is what transformers made of the file
        assert model.is_quantized
        assert model.config.quantization_config.quant_method == "gguf"
        with pytest.raises(ValueError, match="gguf"):
            model.save_pretrained(tmp_path / "dense")


@pytest.mark.parametrize("way", ["padded", "standalone"])
def test_the_other_rungs(way, folder, tmp_path):
    small = hc.cut(model := read(folder), random_decision(hc.units(model, "neuron"), seed=3))
    hc.save(small, tmp_path / "small", **{way: True})
    again = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "small", trust_remote_code=way == "standalone"
    )
    words = torch.arange(1, 9)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(words).logits, small(words).logits, atol=1e-5, rtol=0)
