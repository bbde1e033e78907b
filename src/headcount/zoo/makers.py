"""Make a tensor for each input of a model, by the name of the input."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

FIRST_TOKEN, LAST_TOKEN = 8, 40
"""Tokens are drawn from this range, which has no special tokens: they are at either end."""


@dataclass(frozen=True)
class Shape:
    """The sizes of the inputs.

    Attributes:
        config: The configuration of the model.
        batch: The number of examples.
        length: The number of tokens.
        dtype: The dtype of floating-point inputs.
        generator: The source of randomness.
        left: Whether padding is on the left.
    """

    config: PreTrainedConfig
    batch: int
    length: int
    dtype: torch.dtype
    generator: torch.Generator
    left: bool = False

    def find(self, *names: str, default: Any = None) -> Any:
        """Look a setting up in the configuration, then in the configurations of its parts."""
        return _find(self.config, names, default)

    def floats(self, *sizes: int) -> Tensor:
        """Draw from the standard normal distribution, in the model's dtype."""
        return torch.randn(self.batch, *sizes, generator=self.generator).to(self.dtype)

    def integers(self, *sizes: int, low: int = 0, high: int = 2) -> Tensor:
        """Draw integers from ``low`` to ``high - 1``, all equally likely."""
        return torch.randint(low, high, (self.batch, *sizes), generator=self.generator)


def _find(config: PreTrainedConfig, names: tuple[str, ...], default: Any) -> Any:
    for name in names:
        if getattr(config, name, None) is not None:
            return getattr(config, name)
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            found = _find(value, names, None)
            if found is not None:
                return found
    return default


def _ids(shape: Shape) -> Tensor:
    vocabulary = shape.find("vocab_size", default=LAST_TOKEN)
    ids = shape.integers(
        shape.length, low=min(FIRST_TOKEN, vocabulary // 2), high=min(LAST_TOKEN, vocabulary)
    )
    pad = shape.find("pad_token_id", default=0)
    inside = isinstance(pad, int) and 0 <= pad < vocabulary
    return ids.masked_fill(_mask(shape) == 0, pad if inside else 0)


def _mask(shape: Shape) -> Tensor:
    """Ones, except for two padding tokens in the last example: masks must have an effect."""
    mask = torch.ones(shape.batch, shape.length, dtype=torch.long)
    mask[-1, slice(0, 2) if shape.left else slice(-2, None)] = 0
    return mask


def _decoder_ids(shape: Shape) -> Tensor:
    return shape.integers(5, low=FIRST_TOKEN, high=LAST_TOKEN)


def _image_size(shape: Shape) -> tuple[int, int]:
    size = shape.find("image_size", default=32)
    return (size, size) if isinstance(size, int) else tuple(size)[-2:]


def _pixels(shape: Shape) -> Tensor:
    channels = shape.find("num_channels", "in_channels", "in_chans", default=3)
    sizes = (channels if isinstance(channels, int) else 3, *_image_size(shape))
    frames = getattr(shape.config, "num_frames", None)
    return shape.floats(*sizes) if frames is None else shape.floats(frames, *sizes)


def _video(shape: Shape) -> Tensor:
    return shape.floats(shape.find("num_frames", default=4), 3, *_image_size(shape))


def _square(shape: Shape) -> Tensor:
    """The 16 patches of each image, each flattened."""
    return shape.floats(16, 3 * shape.find("patch_size") ** 2)


def _features(shape: Shape) -> Tensor:
    """A spectrogram: [bands, frames] if the number of frames is fixed, else [frames, bands]."""
    bands = shape.find("num_mel_bins", "n_mels", "input_feat_size", "feature_size", default=16)
    positions = shape.find("max_source_positions")
    return shape.floats(64, bands) if positions is None else shape.floats(bands, 2 * positions)


def _samples(shape: Shape) -> Tensor:
    channels = getattr(shape.config, "audio_channels", None)
    return shape.floats(1280) if channels is None else shape.floats(channels, 1920)


def _grid(shape: Shape) -> Tensor:
    """The frames, rows and columns of patches of each image."""
    return torch.tensor([[1, 4, 4]] * shape.batch)


def patches(shape: Shape) -> Tensor:
    """The patches of all images, one after another, each flattened."""
    patch = shape.find("patch_size", default=4)
    width = shape.find("num_channels", "in_channels", "in_chans", default=3) * patch * patch
    width *= shape.find("temporal_patch_size", "patch_temporal", default=1)
    return shape.floats(16, width).flatten(0, 1)


def _boxes(shape: Shape) -> Tensor:
    """Left, top, right and bottom of each token's box: integers up to 20, or fractions of 64."""
    corners = shape.integers(shape.length, 2, low=0, high=16)
    boxes = torch.cat([corners, corners + 4], dim=-1)
    return boxes if shape.config.model_type.startswith("layout") else boxes.to(shape.dtype) / 64


def _past(shape: Shape) -> Tensor:
    """The values of a time series, as far back as its lags reach."""
    lags = shape.find("lags_sequence")
    length = shape.find("context_length", default=32) + (0 if lags is None else max(lags))
    channels = shape.find("num_input_channels")
    return shape.floats(length) if channels is None else shape.floats(length, channels)


def _past_times(shape: Shape) -> Tensor:
    return shape.floats(_past(shape).shape[1], shape.find("num_time_features", default=1))


def _future_times(shape: Shape) -> Tensor:
    return shape.floats(shape.find("prediction_length"), shape.find("num_time_features", default=1))


def _image_ids(shape: Shape) -> Tensor:
    """Token numbers: four image tokens, then text."""
    ids = _ids(shape)
    ids[:, :4] = shape.find("image_token_index", "image_token_id")
    return ids


def _places(shape: Shape) -> Tensor:
    """The row and the column of each of 16 patches."""
    cells = torch.arange(16)
    return torch.stack([cells // 4, cells % 4], dim=-1).repeat(shape.batch, 1, 1)


def _flattened(shape: Shape) -> Tensor:
    """Patches, each preceded by its row and its column."""
    width = shape.find("patch_embed_hidden_size", default=32)
    return torch.cat([_places(shape).to(shape.dtype), shape.floats(16, width)], dim=-1)


def _codes(shape: Shape) -> Tensor:
    """Five steps of four codebooks, each codebook in its own row."""
    return shape.integers(4, 5, low=8, high=40).flatten(0, 1)


SERIES: dict[str, Callable[[Shape], Tensor]] = {
    "past_values": _past,
    "past_time_features": _past_times,
    "past_observed_mask": lambda shape: torch.ones_like(_past(shape)),
    "past_values_padding": lambda shape: torch.zeros_like(_past(shape)),
    "future_values": lambda shape: shape.floats(shape.find("prediction_length")),
    "future_time_features": _future_times,
}
"""Input of a time-series model -> the function that makes it."""

MAKERS: dict[str, Callable[[Shape], Tensor]] = {
    "input_ids": _ids,
    "attention_mask": _mask,
    "decoder_input_ids": _decoder_ids,
    "pixel_values": _pixels,
    "input_features": _features,
    "input_values": _samples,
    "hidden_states": patches,
    "grid_thw": _grid,
    "image_grid_thw": _grid,
    "bbox": _boxes,
    "pixel_values_videos": _video,
    "prompt_pixel_values": _pixels,
    "prompt_masks": _pixels,
    "inputs": _samples,
    "image_attention_mask": lambda shape: torch.ones(
        shape.batch, shape.length, 1, dtype=torch.long
    ),
    "image_embeds_position_mask": lambda shape: (
        torch.arange(shape.length).repeat(shape.batch, 1) < 2
    ),
    "pixel_attention_mask": lambda shape: torch.ones(shape.batch, 16, dtype=torch.long),
    "spatial_shapes": lambda shape: torch.full((shape.batch, 2), 4),
    "merge_sizes": lambda shape: torch.ones(shape.batch, dtype=torch.long),
    "encoder_hidden_states": lambda shape: shape.floats(6, shape.find("hidden_size")),
    "qformer_input_ids": _ids,
    "audio_mel": lambda shape: shape.floats(64, shape.find("input_feat_size")),
    "audio_mel_mask": lambda shape: torch.zeros(shape.batch, 64, dtype=torch.bool),
    "task_inputs": lambda shape: shape.integers(shape.find("task_seq_len"), low=8, high=40),
    "pixel_position_ids": _places,
    "query_embeds": lambda shape: shape.floats(8, shape.find("hidden_size")),
    "latents": lambda shape: shape.floats(shape.find("latent_dim", "hidden_size"), 16),
    "flattened_patches": _flattened,
    "freq": lambda shape: torch.zeros(shape.batch, 1, dtype=torch.long),
    **SERIES,
    "visual_feats": lambda shape: shape.floats(3, shape.find("visual_feat_dim", default=16)),
    "visual_pos": lambda shape: shape.floats(3, 4),
    "states": lambda shape: shape.floats(shape.length, shape.find("state_dim")),
    "actions": lambda shape: shape.floats(shape.length, shape.find("act_dim")),
    "rewards": lambda shape: shape.floats(shape.length, 1),
    "returns_to_go": lambda shape: shape.floats(shape.length, 1),
    "timesteps": lambda shape: torch.arange(shape.length).repeat(shape.batch, 1),
    "input_features_mask": lambda shape: torch.ones(shape.batch, 64, dtype=torch.long),
}
"""Name of an input -> the function that makes it."""

SPECIAL: dict[tuple[str, str], Callable[[Shape], Tensor]] = {
    ("audio-spectrogram-transformer", "input_values"): lambda shape: shape.floats(32, 16),
    ("blip-2", "input_ids"): _image_ids,
    ("clap", "input_features"): lambda shape: shape.floats(1, 64, 64),
    ("clvp", "input_features"): lambda shape: shape.floats(80, 64),
    ("dac", "input_values"): lambda shape: shape.floats(1, 1024),
    ("dia", "decoder_input_ids"): lambda shape: shape.integers(5, 9, low=8, high=40),
    ("fun_asr_nano_encoder", "input_features"): lambda shape: shape.floats(64, 112),
    ("gemma4_audio", "input_features"): lambda shape: shape.floats(64, 128),
    ("gemma4_vision", "pixel_values"): _square,
    ("glmasr_encoder", "input_features"): lambda shape: shape.floats(16, 64),
    ("granite_speech5_ctc", "input_features"): lambda shape: shape.floats(64, 64),
    ("granite_speech5_encoder", "input_features"): lambda shape: shape.floats(64, 64),
    ("hunyuan_vl_vision", "pixel_values"): lambda shape: shape.floats(16, 48).flatten(0, 1),
    ("idefics", "pixel_values"): lambda shape: shape.floats(1, 3, 32, 32),
    ("instructblip", "input_ids"): _image_ids,
    ("instructblipvideo", "input_ids"): _image_ids,
    ("instructblipvideo", "pixel_values"): lambda shape: shape.floats(1, 3, 32, 32),
    ("kimi_k25_vision", "pixel_values"): lambda shape: shape.floats(16, 3, 4, 4).flatten(0, 1),
    ("kyutai_speech_to_text", "input_ids"): lambda shape: shape.integers(
        shape.length, 33, low=8, high=40
    ),
    ("lightglue", "pixel_values"): lambda shape: shape.floats(2, 3, 32, 32),
    ("muse_spark_audio", "input_values"): lambda shape: shape.floats(1920),
    ("musicgen", "decoder_input_ids"): _codes,
    ("musicgen_melody", "decoder_input_ids"): _codes,
    ("neucodec", "input_features"): lambda shape: shape.floats(64, 16),
    ("neucodec", "input_values"): lambda shape: shape.floats(1, 1280),
    ("pe_audio", "input_values"): lambda shape: shape.floats(1, 1920),
    ("pe_audio_encoder", "input_values"): lambda shape: shape.floats(1, 1920),
    ("perceiver", "inputs"): _ids,
    ("qwen3_asr_encoder", "input_features"): lambda shape: shape.floats(16, 64),
    ("seggpt", "pixel_values"): lambda shape: shape.floats(3, 32, 32),
    ("seggpt", "prompt_masks"): lambda shape: shape.floats(3, 32, 32),
    ("seggpt", "prompt_pixel_values"): lambda shape: shape.floats(3, 32, 32),
    ("siglip2", "pixel_values"): _square,
    ("siglip2_vision_model", "pixel_values"): _square,
    ("speech_to_text", "input_features"): lambda shape: shape.floats(64, 16),
    ("superglue", "pixel_values"): lambda shape: shape.floats(2, 3, 32, 32),
    ("tvp", "pixel_values"): lambda shape: shape.floats(4, 3, 128, 128),
    ("vibevoice_acoustic_tokenizer", "input_values"): lambda shape: shape.floats(1, 1280),
    ("vibevoice_acoustic_tokenizer_decoder", "hidden_states"): lambda shape: shape.floats(32, 16),
    ("vibevoice_acoustic_tokenizer_encoder", "hidden_states"): lambda shape: shape.floats(1, 1280),
    ("vibevoice_acoustic_tokenizer_encoder", "input_values"): lambda shape: shape.floats(1, 1280),
    ("voxtral_realtime", "input_features"): lambda shape: shape.floats(16, 56),
    ("voxtral_realtime_encoder", "input_features"): lambda shape: shape.floats(16, 64),
    ("wav2vec2-bert", "input_features"): lambda shape: shape.floats(64, 16),
    ("xclip", "pixel_values"): lambda shape: shape.floats(8, 3, 32, 32),
    ("xcodec", "input_values"): lambda shape: shape.floats(1, 1920),
    ("xcodec2", "input_features"): lambda shape: shape.floats(64, 16),
    ("xcodec2", "input_values"): lambda shape: shape.floats(1, 1280),
}
"""(model type, name of an input) -> the function that makes it, where ``MAKERS`` does not fit."""
