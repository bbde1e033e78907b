"""Families whose code takes the width of its input for its heads', and those with stages."""

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING

import headcount as hc
from exact import assert_exact, randomised
from headcount.errors import ArchitectureError
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import equal_bits
from headcount.zoo.shrink import shrunk
from headcount.zoo.tiny import auto_class_name

INSIDE = {"head", "neuron", "sublayer"}
PLAIN = {*INSIDE, "layer"}

FAMILIES = {
    "hiera": INSIDE,
    "longformer": INSIDE,
    "blip-2": PLAIN,
    "lxmert": INSIDE,
    "timesformer": INSIDE,
    "mgp-str": INSIDE,
    "instructblip": PLAIN,
    "led": INSIDE,
    "fsmt": INSIDE,
    "pvt_v2": {"head", "sublayer"},
    "trocr": INSIDE,
    "perceiver": INSIDE,
    "luke": INSIDE,
    "xmod": INSIDE,
    "mask2former": INSIDE,
    "sam2_hiera_det_model": {"head", "sublayer", "layer"},
    "swin": INSIDE,
    "swinv2": INSIDE,
    "donut-swin": INSIDE,
    "maskformer-swin": INSIDE,
}
"""Model types, and the kinds of unit that they have."""

FAST = ("hiera", "longformer", "blip-2")
EACH = [
    pytest.param(kind, marks=[] if kind in FAST else pytest.mark.slow, id=kind) for kind in FAMILIES
]


def tiny(kind: str) -> transformers.PreTrainedModel:
    config = shrunk(CONFIG_MAPPING[kind], {})
    auto = getattr(transformers, auto_class_name(kind))
    return randomised(auto.from_config(config, dtype=torch.float32))


@pytest.mark.parametrize("kind", EACH)
def test_masked_equals_cut_and_what_is_saved_comes_back(kind, tmp_path):
    model = tiny(kind)
    assert hc.units(model).kinds == FAMILIES[kind]
    small = assert_exact(model, dummy_inputs).float()
    small.save_pretrained(tmp_path)
    again = type(small).from_pretrained(tmp_path).eval()
    mine, theirs = small.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    with torch.no_grad():
        torch.manual_seed(0)
        expected = small(**dummy_inputs(small))
        torch.manual_seed(0)
        assert equal_bits(expected, again(**dummy_inputs(again)))


def test_a_layer_that_changes_the_shape_stays():
    """Sam 2's stages halve the tokens and double the width in their first layers."""
    units = hc.units(tiny("sam2_hiera_det_model"))
    gone = {site.module for site in units.only("layer").sites}
    blocks = {f"blocks.{number}" for number in range(8)}
    assert blocks - gone == {"blocks.2", "blocks.4", "blocks.6"}


def test_neurons_that_a_convolution_mixes_are_left_alone():
    units = hc.units(tiny("segformer"))
    assert not any("mlp" in site.module for site in units.only("neuron").sites)


class WideAttention(torch.nn.Module):
    """Attention of somebody's own, which takes the width of its input for that of its heads."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.num_heads = 2
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.proj = torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        context = torch.nn.functional.scaled_dot_product_attention(*qkv)
        return self.proj(context.transpose(1, 2).reshape(batch, length, width))


class NarrowAttention(WideAttention):
    """The same, but it takes what there is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        context = torch.nn.functional.scaled_dot_product_attention(*qkv)
        return self.proj(context.transpose(1, 2).flatten(2))


def test_code_that_takes_its_inputs_width_for_its_heads_is_refused_unless_a_row_names_it():
    with pytest.raises(ArchitectureError, match="takes the width of its input for that of all"):
        hc.units(torch.nn.Sequential(WideAttention()))
    model = torch.nn.Sequential(NarrowAttention())
    states = torch.randn(2, 5, 8, dtype=torch.float64)
    assert_exact(model, lambda _: {"input": states}, "head")
