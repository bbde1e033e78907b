"""Inputs of speech models: features of recordings, and tokens of transcripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headcount.errors import DataError
from headcount.evidence.gate_grads import IGNORED
from headcount.tasks.audio import decoded
from headcount.tasks.listening import Listener, spelt


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechCollator:
    """Makes a batch of rows: decodes their recordings, and pads features and tokens.

    Example:
        >>> SpeechCollator(processor=None, max_seconds=30.0).max_seconds
        30.0
    """

    processor: Any
    """The model's processor."""
    max_seconds: float
    """The longest recording."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of rows, as ``encode`` returns them."""
        name = self.processor.feature_extractor.model_input_names[0]
        rate, most_s = reads(self.processor, self.max_seconds)
        sounds = [decoded(row[name], "batch", rate=rate, most_s=most_s) for row in rows]
        golds = [torch.tensor(row["labels"]) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(golds, batch_first=True, padding_value=IGNORED)
        return features_of(self.processor, sounds) | {"labels": padded}


def reads(processor: Any, most_s: float) -> tuple[int, float]:
    """What a processor reads: samples per second, and the longest recording in seconds.

    Args:
        processor: the model's processor.
        most_s: a lower limit of the seconds, if there is one.
    """
    extractor = processor.feature_extractor
    own = getattr(extractor, "chunk_length", None) if _is_window(extractor) else None
    return extractor.sampling_rate, most_s if own is None else min(most_s, float(own))


def _is_window(extractor: Any) -> bool:
    """Whether all recordings are filled up to one length, as Whisper's are."""
    return bool(getattr(extractor, "nb_max_frames", None))


def is_masked(processor: Any) -> bool:
    """Whether a model can tell padding from sound, or reads a window of one length.

    Args:
        processor: the model's processor.
    """
    extractor = processor.feature_extractor
    return _is_window(extractor) or bool(getattr(extractor, "return_attention_mask", False))


def features_of(processor: Any, sounds: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """The model's inputs for some recordings, padded to the longest or to the model's window.

    Args:
        processor: the model's processor.
        sounds: samples, each [n].
    """
    extractor = processor.feature_extractor
    more = {} if _is_window(extractor) else {"padding": True}
    rate = extractor.sampling_rate
    return dict(extractor([*sounds], sampling_rate=rate, return_tensors="pt", **more))


def moved_to(inputs: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """Inputs on the device of a model, floats in its precision.

    Args:
        inputs: name -> tensor.
        model: the model.
    """
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
    }


def tokens_of(tokenizer: Any, text: str, listener: Listener, place: str) -> list[int]:
    """The tokens of a transcript, as the model's loss takes them.

    Args:
        tokenizer: the model's.
        text: the transcript.
        listener: what the model writes.
        place: where the transcript stands, for messages.

    Raises:
        DataError: the model cannot write a letter of it.
    """
    if listener.is_ctc:
        return list(tokenizer(spelt(tokenizer, text, place))["input_ids"])
    found = list(tokenizer(text)["input_ids"])
    # The model puts the first token there itself.
    found = found[1:] if found[:1] == [listener.start] else found
    end = tokenizer.eos_token_id
    return found if end is None or found[-1:] == [end] else [*found, end]


def check_gold(
    gold: Sequence[int], size: int, listener: Listener, max_length: int, place: str
) -> None:
    """Refuse a transcript that the model cannot write, or not of so short a recording.

    Args:
        gold: the tokens of the transcript.
        size: samples of the recording.
        listener: what the model reads and writes.
        max_length: most tokens, for models that generate.
        place: where the row stands, for messages.

    Raises:
        DataError: says which.

    Example:
        >>> check_gold([1, 2], 16_000, Listener(is_ctc=False), 2, "row 1")
    """
    if not listener.is_ctc and len(gold) > max_length:
        raise DataError(
            f"{place}: the transcript has {len(gold)} tokens; max_length is {max_length}. Give "
            "more (--max-length), or split the recording."
        )
    frames = listener.frames(size)
    # Between two tokens that are the same, CTC needs a frame without one.
    needed = len(gold) + sum(one == other for one, other in pairwise(gold))
    if listener.is_ctc and frames is not None and frames < max(needed, 1):
        raise DataError(
            f"{place}: the recording makes {frames} frames, too few for the {len(gold)} tokens of "
            "its transcript. Correct one of the two, or leave the row out."
        )
