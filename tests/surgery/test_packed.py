"""Quantised and scattered weights: refused beforehand; leftovers of a file that was packed go."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn

import headcount as hc
from cases import bert, llama


class Packed(torch.Tensor):
    """A tensor of a class of its own, as packed weights are."""


class QuantLinear(nn.Linear):
    """A linear map of a package that quantises."""

    __module__ = "gptqmodel.nn_modules"


def weight(model):
    return model.model.layers[1].self_attn.q_proj


def as_subclass(model):
    weight(model).weight = nn.Parameter(weight(model).weight.detach().as_subclass(Packed))


def as_float8(model):
    packed = weight(model).weight.detach().to(torch.float8_e4m3fn)
    weight(model).weight = nn.Parameter(packed, requires_grad=False)


def as_integers(model):
    weight(model).weight = nn.Parameter(torch.zeros(32, 16, dtype=torch.uint8), requires_grad=False)


def as_own_map(model):
    model.model.layers[1].mlp.down_proj = QuantLinear(24, 32)


def as_known_to_transformers(model):
    config = SimpleNamespace(quant_method="compressed-tensors")
    model.hf_quantizer = SimpleNamespace(quantization_config=config)


def as_flagged(model):
    model.is_quantized = True


@pytest.mark.parametrize(
    "pack",
    [as_subclass, as_float8, as_integers, as_own_map, as_known_to_transformers, as_flagged],
)
def test_quantised_weights_are_refused_before_anything_is_done(pack):
    model = llama()
    decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=4))
    pack(model)
    message = r"quantised.*Load the model unquantised, cut it, then quantise"
    with pytest.raises(hc.SurgeryError, match=message):
        hc.cut(model, decision)
    for method in (hc.Random(seed=0), hc.Magnitude()):
        with pytest.raises(hc.PruningError, match=message):
            hc.decide(model, method, hc.Budget(heads=4))
    with pytest.raises(hc.PruningError, match=message):
        hc.attach(model, hc.DSP(), hc.Budget(heads=4), num_steps=1)


@pytest.mark.parametrize(
    "left",
    [
        SimpleNamespace(quant_method="gguf"),
        SimpleNamespace(quant_method=SimpleNamespace(value="gguf"), dequantize=False),
        SimpleNamespace(quant_method="fp8", dequantize=True),
    ],
)
@pytest.mark.parametrize("in_place", [True, False])
def test_what_is_left_of_a_packed_file_goes(left, in_place, tmp_path):
    """The weights are float after loading; with what is left, transformers would not save them."""
    model = llama()
    model.hf_quantizer, model.is_quantized = SimpleNamespace(quantization_config=left), True
    model.quantization_method = left.quant_method
    model.config.quantization_config, model.config._is_quantized = left, True
    decision = hc.decide(model, hc.Magnitude(), hc.Budget(kv_heads=5))
    small = hc.cut(model, decision, in_place=in_place)
    assert not {"hf_quantizer", "is_quantized", "quantization_method"} & vars(small).keys()
    small.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert hc.units(again).num("kv_head") == 5
    if not in_place:
        assert model.hf_quantizer.quantization_config is left
        assert model.config.quantization_config is left


def test_a_configuration_of_a_packed_model_without_its_weights(tmp_path):
    """A model that was made from such a configuration is float, and is saved as that."""
    model = bert()
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    small = hc.cut(model, hc.decide(model, hc.Magnitude(), hc.Budget(heads=5)))
    small.save_pretrained(tmp_path)
    assert "quantization_config" not in (tmp_path / "config.json").read_text()


@pytest.mark.filterwarnings("ignore")
def test_torchao():
    torchao = pytest.importorskip("torchao.quantization")
    model = llama()
    decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=4))
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    with pytest.raises(hc.SurgeryError, match="is quantised"):
        hc.cut(model, decision)


@pytest.mark.filterwarnings("ignore")
def test_quanto():
    quanto = pytest.importorskip("optimum.quanto")
    model = llama()
    decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=4))
    quanto.quantize(model, weights=quanto.qint8)
    for _ in range(2):
        with pytest.raises(hc.SurgeryError, match="is quantised"):
            hc.cut(model, decision)
        quanto.freeze(model)


def test_weights_that_lie_elsewhere():
    """As FSDP and DeepSpeed leave them in a process: without numbers, or with a mark."""
    model = llama()
    decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=4))
    kept = weight(model).weight
    weight(model).weight = nn.Parameter(torch.empty(0))
    with pytest.raises(hc.SurgeryError, match=r"q_proj\.weight is partitioned .* Gather the weigh"):
        hc.cut(model, decision)
    with pytest.raises(hc.ArchitectureError, match="Gather the weights first"):
        hc.units(model)
    weight(model).weight = kept
    kept.ds_id = 3
    with pytest.raises(hc.SurgeryError, match="Gather the weights first"):
        hc.cut(model, decision)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_distributed(tmp_path):
    """FSDP2 in a group of one: the method learns, and the cut is refused."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = bert()
        plain = hc.units(model)
        for layer in model.bert.encoder.layer:
            fully_shard(layer)
        fully_shard(model)
        assert hc.units(model) == plain
        decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=4))
        with pytest.raises(hc.SurgeryError, match=r"is a DTensor .* Gather the weights first"):
            hc.cut(model, decision)
    finally:
        dist.destroy_process_group()
