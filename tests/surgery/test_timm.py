"""Vision transformers of timm, bare and in transformers' wrapper."""

import json
import sys
import types

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.utils import import_utils

import headcount as hc
from exact import assert_exact, randomised
from headcount.errors import ArchitectureError
from headcount.pieces import GUARD
from headcount.zoo.outputs import equal_bits

PLAIN = {"head", "neuron", "sublayer", "layer"}
INSIDE = {"head", "neuron", "sublayer"}
SMALL = {"depth": 2, "embed_dim": 32, "num_heads": 4, "img_size": 28}
STAGES = {"depths": (2, 2), "embed_dim": 32, "num_heads": (4, 8), "img_size": 28, "window_size": 3}

MODELS = {
    "vit, norms of queries and keys, layer scale": (
        "vit_tiny_patch16_224",
        {**SMALL, "img_size": 32, "qk_norm": True, "init_values": 0.1},
        PLAIN,
    ),
    "vit, gated neurons, registers": ("vit_giant_patch14_reg4_dinov2", SMALL, PLAIN),
    "deit, distilled": ("deit_tiny_distilled_patch16_224", {**SMALL, "img_size": 32}, PLAIN),
    "vit, parallel sublayers": ("vit_small_patch16_18x2_224", {**SMALL, "img_size": 32}, PLAIN),
    "siglip": ("vit_base_patch16_siglip_224", {**SMALL, "img_size": 32}, PLAIN),
    "eva": ("eva_giant_patch14_224", SMALL, PLAIN),
    "eva02, separate projections": ("eva02_tiny_patch14_224", SMALL, PLAIN),
    "beit": ("beit_base_patch16_224", {**SMALL, "img_size": 32}, PLAIN),
    "beit, positions of all layers": (
        "beit_base_patch16_224",
        {**SMALL, "img_size": 32, "use_rel_pos_bias": False, "use_shared_rel_pos_bias": True},
        PLAIN,
    ),
    "swin": ("swin_tiny_patch4_window7_224", {**STAGES, "img_size": 32}, PLAIN),
    "swin v2": ("swinv2_tiny_window8_256", {**STAGES, "img_size": 32}, PLAIN),
    "hiera": (
        "hiera_tiny_224",
        {"stages": (1, 2, 1, 1), "embed_dim": 32, "num_heads": 4, "img_size": (64, 64)},
        INSIDE,
    ),
}
FAST = ("eva", "swin v2")
EACH = [
    pytest.param(name, marks=[] if name in FAST else pytest.mark.slow, id=name) for name in MODELS
]
REFUSED = {
    "beit3_base_patch16_224": "norm.weight",
    "vit_relpos_small_patch16_224": "takes the width of its input for that of all its heads",
    "cait_xxs24_224": "takes the width of its input for that of all its heads",
}


class Bare(nn.LayerNorm):
    """A norm without weights."""

    def __init__(self, size: int, **_: object) -> None:
        super().__init__(size, elementwise_affine=False)


class Anything(types.ModuleType):
    """Stands for torchvision, of which timm wants names to be there when it is imported."""

    __path__ = ()

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type("Named", (type,), {"__getattr__": lambda _, key: key})(name, (), {})


@pytest.fixture(scope="module")
def timm():
    if import_utils.importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    parts = "datasets ops ops.misc transforms transforms.functional utils"
    stubs = {f"torchvision.{part}": Anything(part) for part in parts.split()}
    stubs = {"torchvision": Anything("torchvision"), **stubs}
    for name, stub in stubs.items():
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(stubs[parent], leaf, stub)
    with pytest.MonkeyPatch.context() as patch:
        if import_utils.importlib.util.find_spec("torchvision") is None:
            for name, stub in stubs.items():
                patch.setitem(sys.modules, name, stub)
        import timm

    return timm


@pytest.fixture
def wrapped(timm, monkeypatch):
    """A model in transformers' wrapper, which asks for torchvision too."""
    for module in (import_utils, transformers.utils):
        monkeypatch.setattr(module, "is_timm_available", lambda: True)
    for name in ("timm", "vision"):
        monkeypatch.setitem(import_utils.BACKENDS_MAPPING, name, (lambda: True, ""))
    from transformers.models.timm_wrapper import configuration_timm_wrapper as configuration
    from transformers.models.timm_wrapper import modeling_timm_wrapper as modeling

    monkeypatch.setattr(modeling, "timm", timm, raising=False)
    for name in ("ImageNetInfo", "infer_imagenet_subset"):
        monkeypatch.setattr(configuration, name, getattr(timm.data, name), raising=False)

    def make(name: str, cls: str) -> transformers.PreTrainedModel:
        architecture, settings, _ = MODELS[name]
        config = configuration.TimmWrapperConfig(
            architecture=architecture, model_args=settings, num_labels=3
        )
        return randomised(getattr(modeling, cls)(config))

    return make


def images(model: nn.Module) -> Tensor:
    inner = getattr(model, "timm_model", model)
    size = getattr(inner.patch_embed, "img_size", (64, 64))
    draw = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, *size, generator=draw).to(next(model.parameters()).dtype)


@pytest.mark.parametrize("name", EACH)
def test_a_bare_model_is_cut(timm, name):
    architecture, settings, kinds = MODELS[name]
    model = randomised(timm.create_model(architecture, num_classes=3, **settings))
    assert hc.units(model).kinds == kinds
    assert_exact(model, lambda model: {"x": images(model)})


@pytest.mark.parametrize("cls", ["TimmWrapperModel", "TimmWrapperForImageClassification"])
@pytest.mark.parametrize("name", EACH)
def test_a_wrapped_model_is_cut_and_comes_back(wrapped, name, cls, tmp_path):
    model = wrapped(name, cls)
    kinds = ("head", "neuron") if name in FAST else ()
    small = assert_exact(model, lambda model: {"pixel_values": images(model)}, *kinds).float()
    small.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert not kinds or GUARD in written["per_layer_config"]  # transformers fails on it
    again = type(small).from_pretrained(tmp_path).eval()
    mine, theirs = small.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    with torch.no_grad():
        assert equal_bits(small(images(small)), again(images(small)))


@pytest.mark.parametrize("architecture", REFUSED)
def test_what_no_row_describes_is_refused_with_the_part(timm, architecture):
    size = {"depth": 1, "embed_dim": 32, "num_heads": 4, "img_size": 32}
    with pytest.raises(ArchitectureError, match=REFUSED[architecture]):
        hc.units(timm.create_model(architecture, **size))


def test_a_norm_without_weights_is_seen(timm):
    settings = {**SMALL, "img_size": 32, "scale_attn_norm": True}
    model = timm.create_model("vit_tiny_patch16_224", norm_layer=Bare, **settings)
    with pytest.raises(ArchitectureError, match="no table describes"):
        hc.units(model)
    assert not any(True for _ in model.blocks[0].attn.norm.parameters())


def test_neurons_that_are_normalised_together_are_left_alone(timm):
    settings = {**SMALL, "img_size": 32, "scale_mlp_norm": True, "mlp_ratio": 1}
    assert hc.units(timm.create_model("vit_tiny_patch16_224", **settings)).num("neuron") == 0
