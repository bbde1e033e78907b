"""Make the inputs of a tiny model from its configuration and the signature of its forward pass."""

import inspect
from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from headcount.zoo.makers import MAKERS, SPECIAL, Shape, patches
from headcount.zoo.tiny import CannotBuild

INPUTS: dict[str, tuple[str, ...]] = {
    "audioflamingo3_encoder": ("input_features", "input_features_mask"),
    "blip": ("input_ids", "pixel_values", "attention_mask"),
    "blip-2": ("pixel_values", "input_ids", "attention_mask"),
    "bros": ("input_ids", "bbox", "attention_mask"),
    "clvp": ("input_ids", "input_features", "attention_mask"),
    "colmodernvbert": ("input_ids", "attention_mask"),
    "colpali": ("input_ids", "attention_mask"),
    "colqwen2": ("input_ids", "attention_mask"),
    "decision_transformer": ("states", "actions", "rewards", "returns_to_go", "timesteps"),
    "embedding_gemma2": ("input_ids", "attention_mask"),
    "gemma3n_audio": ("audio_mel", "audio_mel_mask"),
    "glm_image": ("input_ids", "attention_mask"),
    "idefics": ("input_ids", "attention_mask", "pixel_values", "image_attention_mask"),
    "instructblip": ("pixel_values", "input_ids", "attention_mask", "qformer_input_ids"),
    "instructblipvideo": ("pixel_values", "input_ids", "attention_mask", "qformer_input_ids"),
    "kosmos-2": ("pixel_values", "input_ids", "attention_mask", "image_embeds_position_mask"),
    "lxmert": ("input_ids", "attention_mask", "visual_feats", "visual_pos"),
    "modernvbert": ("input_ids", "attention_mask"),
    "neomme": ("input_ids", "attention_mask"),
    "oneformer": ("pixel_values", "task_inputs"),
    "perceiver": ("inputs", "attention_mask"),
    "pix2struct": ("flattened_patches", "decoder_input_ids"),
    "seggpt": ("pixel_values", "prompt_pixel_values", "prompt_masks"),
    "siglip2": (
        "input_ids",
        "attention_mask",
        "pixel_values",
        "pixel_attention_mask",
        "spatial_shapes",
    ),
    "speech-encoder-decoder": ("inputs", "decoder_input_ids"),
    "t5gemma2_encoder": ("input_ids", "attention_mask"),
    "timesfm": ("past_values", "past_values_padding", "freq"),
    "udop": ("input_ids", "bbox", "attention_mask", "decoder_input_ids"),
    "ultravbert": ("input_ids", "attention_mask"),
    "voxtral_realtime": ("input_ids", "attention_mask", "input_features"),
}
"""Model type -> its inputs, for types whose forward signature does not tell."""


def dummy_inputs(
    model: PreTrainedModel, *, batch: int = 2, length: int = 7, seed: int = 0
) -> dict[str, Tensor]:
    """Make the keyword inputs of one forward pass.

    Args:
        model: The model.
        batch: The number of examples. The last one is padded at its end.
        length: The number of tokens of the longest.
        seed: The seed of the inputs.

    Returns:
        Name -> tensor. Floats have the dtype of the model.

    Raises:
        CannotBuild: The model needs an input for which there is no maker.

    Example:
        >>> from headcount.zoo.tiny import tiny_model
        >>> {name: tuple(x.shape) for name, x in dummy_inputs(tiny_model("gpt2")).items()}
        {'input_ids': (2, 7), 'attention_mask': (2, 7)}
    """
    shape = _shape(model, batch, length, seed)
    return _made(shape, _names(model))


def generation_inputs(
    model: PreTrainedModel, *, batch: int = 2, length: int = 7, seed: int = 0
) -> dict[str, Tensor] | None:
    """Make the inputs of `model.generate`.

    Args:
        model: The model.
        batch: The number of examples. In models without an encoder the last one is padded on the
            left, since generation continues at the right end.
        length: The number of tokens of the longest.
        seed: The seed of the inputs.

    Returns:
        Name -> tensor; None if the model cannot generate.

    Example:
        >>> from headcount.zoo.tiny import tiny_model
        >>> generation_inputs(tiny_model("bert")) is None
        True
        >>> generation_inputs(tiny_model("gpt2"))["attention_mask"][1].tolist()
        [0, 0, 1, 1, 1, 1, 1]
    """
    if not model.can_generate():
        return None
    shape = _shape(model, batch, length, seed, left=not model.config.is_encoder_decoder)
    return _made(shape, [name for name in _names(model) if not name.startswith("decoder_")])


def _shape(
    model: PreTrainedModel, batch: int, length: int, seed: int, *, left: bool = False
) -> Shape:
    generator = torch.Generator().manual_seed(seed)
    return Shape(model.config, batch, length, model.dtype, generator, left)


def _names(model: PreTrainedModel) -> tuple[str, ...]:
    """The names of the inputs for a model's forward pass."""
    if model.config.model_type in INPUTS:
        return INPUTS[model.config.model_type]
    # The model's main input, all arguments without a default, and what these usually come with.
    known = inspect.signature(model.forward).parameters
    main = model.main_input_name
    wanted = {main} if isinstance(main, str) else set(main)
    wanted |= {
        n for n, p in known.items() if p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD
    }
    if not model.can_generate():
        wanted |= {"input_ids", "pixel_values", "input_features", "input_values"}
    if "past_values" in wanted:
        wanted |= {"future_values", "future_time_features"} & known.keys()
    if model.config.is_encoder_decoder:
        wanted.add("decoder_input_ids")
    if "input_ids" in wanted & known.keys():
        wanted.add("attention_mask")
    if getattr(model.config, "add_cross_attention", False):
        wanted.add("encoder_hidden_states")
    return tuple(name for name in known if name in wanted)


def _made(shape: Shape, names: Iterable[str]) -> dict[str, Tensor]:
    """Name -> tensor, for these names."""
    names = tuple(names)
    kind, made = shape.config.model_type, {}
    # Models with a grid take the patches of all images in one row.
    packed = bool({"grid_thw", "image_grid_thw"} & set(names))
    for name in names:
        maker = SPECIAL.get((kind, name)) or MAKERS.get(name)
        if maker is None:
            raise CannotBuild(f"{kind}: no input named {name!r} is known here")
        if packed and name == "pixel_values" and (kind, name) not in SPECIAL:
            maker = patches
        made[name] = maker(shape)
    return made
