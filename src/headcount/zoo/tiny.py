"""Tiny models with random weights, of every type that transformers has.

Rules on the names of keys make a configuration small, whatever the type: every width is 32, every
stack has 2 layers and every attention 4 heads. So settings that refer to each other still agree.
Types for which the rules are not enough are in the table `headcount.zoo.exceptions`.
"""

import copy
import re
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from headcount.zoo.shrink import shrunk
from headcount.zoo.variants import switches_of, type_of

NO_FORWARD = "its parts run one after another, it has no forward pass of its own"
SESSION = "its forward pass takes a session of frames"
DRAFTER = "it drafts for another model, whose keys and values it reads"

CANNOT: dict[str, str] = {
    "bark": NO_FORWARD,
    "edgetam_video": SESSION,
    "evolla": "no Auto class accepts its configuration",
    "gemma4_assistant": DRAFTER,
    "gemma4_unified_assistant": DRAFTER,
    "glm_image_vqmodel": NO_FORWARD,
    "muse_glimmer_assistant": DRAFTER,
    "qwen2_5_omni": NO_FORWARD,
    "sam2_video": SESSION,
    "sam3_tracker_video": SESSION,
    "sam3_video": SESSION,
    "voxtral_realtime_text": "its Auto class names a model that does not exist",
}
"""Type that cannot be built -> the reason."""

AUTO: dict[str, str] = {
    "musicgen": "AutoModelForTextToWaveform",
    "musicgen_melody": "AutoModelForTextToWaveform",
}
"""Type -> its Auto class, where the first one that knows the type refuses its configuration."""

AUTO_CLASSES = (
    "AutoModelForImageTextToText",
    "AutoModelForMultimodalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModel",
)
"""The Auto classes that are tried first, in this order: classes that generate come first."""


DECODERS = "AutoModelForCausalLM"
"""The Auto class of variants that are switched to decoders."""

LIMIT = 25_000_000
"""Models with more parameters are not built."""


class CannotBuild(Exception):  # noqa: N818
    """A tiny model of this type cannot be made here."""


def model_types() -> tuple[str, ...]:
    """Name every model type that transformers knows.

    Returns:
        The types, in the order in which transformers lists them.

    Example:
        >>> "bert" in model_types()
        True
    """
    return tuple(CONFIG_MAPPING.keys())


def tiny_config(model_type: str) -> PreTrainedConfig:
    """Make the configuration of a tiny model.

    Args:
        model_type: The type, such as `"bert"`, or a variant of it: `"falcon[alibi=True]"`.

    Returns:
        A configuration of about 2 layers of 4 heads and a width of 32.

    Raises:
        CannotBuild: The type is unknown, or refuses a small configuration.

    Example:
        >>> tiny_config("gpt2").n_layer
        2
    """
    kind = type_of(model_type)
    if kind not in model_types():
        raise CannotBuild(f"transformers {transformers.__version__} knows no type {kind!r}")
    if kind in CANNOT:
        raise CannotBuild(f"{kind}: {CANNOT[kind]}")
    try:
        return shrunk(CONFIG_MAPPING[kind], switches_of(model_type))
    except Exception as error:
        raise CannotBuild(f"{kind}: no small configuration: {_line(error)}") from error


def auto_class_name(model_type: str) -> str:
    """Name the Auto class that builds the tiny model of a type.

    Args:
        model_type: The type, or a variant of it.

    Returns:
        The name of an Auto class, one whose models generate if there is one.

    Raises:
        CannotBuild: No Auto class knows the type.

    Example:
        >>> auto_class_name("t5")
        'AutoModelForSeq2SeqLM'
    """
    kind = type_of(model_type)
    if kind in AUTO:
        return AUTO[kind]
    if switches_of(model_type).get("is_decoder") and kind in _mapped(DECODERS):
        return DECODERS
    for name in AUTO_CLASSES + _other_auto_classes():
        if kind in _mapped(name):
            return name
    raise CannotBuild(f"{kind}: no Auto class knows it, it is a part of other models")


def tiny_model(model_type: str, seed: int = 0) -> PreTrainedModel:
    """Build a tiny model with random weights, none of them constant.

    Args:
        model_type: The type, or a variant of it.
        seed: The seed of the weights.

    Returns:
        The model in evaluation mode, in float32 on the CPU.

    Raises:
        CannotBuild: The type is unknown, needs a package that is not installed, or does not become
            small.

    Example:
        >>> model = tiny_model("bert")
        >>> model.config.num_attention_heads, model.training
        (4, False)
    """
    config = tiny_config(model_type)
    # Grouped products of experts need sizes that tiny models do not have.
    config._experts_implementation = "eager"
    auto = getattr(modeling_auto, auto_class_name(model_type))
    _refuse_large(auto, config)
    # Forked, so that building a model does not disturb the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = auto.from_config(config, dtype=torch.float32)
        except Exception as error:
            raise CannotBuild(f"{type_of(model_type)}: {_line(error)}") from error
        _disturb(model)
    _set_start(model)
    return model.eval()


def _line(error: Exception) -> str:
    """An error as one line; a short one if a package is missing."""
    text = " ".join(str(error).split())
    missing = re.search(r"requires the (\S+) library", text)
    if isinstance(error, ImportError) and missing:
        return f"needs the package {missing.group(1)}, which is not installed"
    return f"{type(error).__name__}: {text[:200]}"


def _mapped(auto: str) -> dict[str, str | tuple[str, ...]]:
    return getattr(modeling_auto, auto)._model_mapping._model_mapping


def _other_auto_classes() -> tuple[str, ...]:
    names = {name for name in vars(modeling_auto) if name.startswith("AutoModelFor")}
    return tuple(sorted(names - set(AUTO_CLASSES)))


def _refuse_large(auto: Any, config: PreTrainedConfig) -> None:
    """Refuse a large model before it takes memory, if the type can be built on the meta device."""
    try:
        with torch.device("meta"):
            model = auto.from_config(copy.deepcopy(config))
    except Exception:
        return
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > LIMIT:
        raise CannotBuild(f"{config.model_type}: not small, it has {count:,} parameters")


def _disturb(model: PreTrainedModel) -> None:
    """Add noise to constant parameters: zeros or ones have no effect that a check could see."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.is_floating_point() or parameter.numel() == 0:
                continue
            if parameter.min() == parameter.max():
                parameter.add_(0.1 * torch.randn_like(parameter))


def _set_start(model: PreTrainedModel) -> None:
    """Give a decoder a first token if it has none: without it, it cannot generate."""
    settings = getattr(model, "generation_config", None)
    if settings is None or not model.config.is_encoder_decoder:
        return
    if settings.decoder_start_token_id is None and settings.bos_token_id is None:
        settings.decoder_start_token_id = 0
