"""Tiny, randomly initialised models of the types that transformers knows.

A configuration is made small by the names of its keys, whatever the type: every width is 32, every
stack has 2 layers and every attention 4 heads, so that what refers to each other still agrees. What
the names do not settle stands in a literal table, `headcount.zoo.exceptions`.
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
"""Types that cannot be built, and why."""

AUTO: dict[str, str] = {
    "musicgen": "AutoModelForTextToWaveform",
    "musicgen_melody": "AutoModelForTextToWaveform",
}
"""The Auto class of a type, where the first that knows it does not accept its configuration."""

AUTO_CLASSES = (
    "AutoModelForImageTextToText",
    "AutoModelForMultimodalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModel",
)
"""The classes that are tried first, the first that knows a type wins."""


DECODERS = "AutoModelForCausalLM"
"""The class of variants that are switched to decoders."""

LIMIT = 25_000_000
"""No model of more parameters is built."""


class CannotBuild(Exception):  # noqa: N818
    """A tiny model of this type cannot be made here."""


def model_types() -> tuple[str, ...]:
    """Name every model type that transformers knows.

    Returns:
        The types, in the order of transformers.

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
        CannotBuild: If the type is unknown, or no small configuration of it is accepted.

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
        The name of a class of transformers, one whose model generates where there is one.

    Raises:
        CannotBuild: If no Auto class knows the type.

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
        CannotBuild: If the type is unknown, needs a package that is not installed, or does not
            become small.

    Example:
        >>> model = tiny_model("bert")
        >>> model.config.num_attention_heads, model.training
        (4, False)
    """
    config = tiny_config(model_type)
    config._experts_implementation = "eager"
    auto = getattr(modeling_auto, auto_class_name(model_type))
    _refuse_large(auto, config)
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
    """An error in one line, short where a package is missing."""
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
    """Count the parameters before any memory is taken, where a type can be built without."""
    try:
        with torch.device("meta"):
            model = auto.from_config(copy.deepcopy(config))
    except Exception:
        return
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > LIMIT:
        raise CannotBuild(f"{config.model_type}: not small, it has {count:,} parameters")


def _disturb(model: PreTrainedModel) -> None:
    """Add noise to every constant parameter, so that none of them drops out of a check."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.is_floating_point() or parameter.numel() == 0:
                continue
            if parameter.min() == parameter.max():
                parameter.add_(0.1 * torch.randn_like(parameter))


def _set_start(model: PreTrainedModel) -> None:
    """Give a decoder a first token, without which it generates nothing."""
    settings = getattr(model, "generation_config", None)
    if settings is None or not model.config.is_encoder_decoder:
        return
    if settings.decoder_start_token_id is None and settings.bos_token_id is None:
        settings.decoder_start_token_id = 0
