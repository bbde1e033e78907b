"""What a speech model reads and writes, from its configuration and its processor."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoProcessor
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CTC_MAPPING_NAMES,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
)
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from headcount.checkpoints.loading import loading, said
from headcount.errors import CheckpointError, DataError

ENGLISH = ("", "en", "english")
"""Names of the language whose texts Whisper's normaliser for English takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """What a speech model reads and writes.

    Example:
        >>> Listener(is_ctc=True, convolutions=((10, 5), (3, 2))).frames(16_000)
        1599
    """

    is_ctc: bool
    """Whether it gives each frame a letter (CTC), instead of generating a text."""
    start: int | None = None
    """The token with which a generated text begins."""
    most_tokens: int | None = None
    """The longest text that it generates; None for CTC and where nothing limits it."""
    convolutions: tuple[tuple[int, int], ...] = ()
    """Kernel and stride of each convolution over the samples."""

    def frames(self, num_samples: int) -> int | None:
        """The number of frames that become of some samples; None if it is not known."""
        if not self.convolutions:
            return None
        for kernel, stride in self.convolutions:
            num_samples = max(0, (num_samples - kernel) // stride + 1)
        return num_samples


def listener_of(model: str) -> Listener:
    """What a model reads and writes.

    Args:
        model: hub id or folder.

    Raises:
        CheckpointError: there is no such model.
        DataError: it does not recognise speech.
    """
    with loading(model):
        config: Any = AutoConfig.from_pretrained(model, trust_remote_code=False)
    kind = config.model_type
    is_ctc = kind in MODEL_FOR_CTC_MAPPING_NAMES
    if not is_ctc and kind not in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES:
        raise DataError(
            f"task 'speech-recognition': model {str(model)!r} is of the type {kind!r}, which does "
            "not recognise speech. Give one like Whisper, or one with CTC like wav2vec 2.0."
        )
    kernels, strides = getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ())
    return Listener(
        is_ctc=is_ctc,
        start=None if is_ctc else getattr(config, "decoder_start_token_id", None),
        most_tokens=None if is_ctc else getattr(config, "max_target_positions", None),
        convolutions=tuple(zip(kernels, strides, strict=True)) if is_ctc else (),
    )


def load_speech_processor(model: str) -> Any:
    """The feature extractor and the tokenizer of a model, as transformers' processor.

    Raises:
        CheckpointError: there is none, or one of the two is missing.
    """
    try:
        processor = AutoProcessor.from_pretrained(model, trust_remote_code=False)
    except Exception as error:  # its files have many readers
        raise CheckpointError(
            f"model {model!r}: its processor cannot be loaded: {said(error)}. Give a model whose "
            "folder has its feature extractor and its tokenizer."
        ) from error
    for part in ("feature_extractor", "tokenizer"):
        if getattr(processor, part, None) is None:
            raise CheckpointError(
                f"model {model!r}: its processor has no {part}. Save the one that it was trained "
                "with into its folder."
            )
    return processor


def normaliser(tokenizer: Any, language: str) -> Callable[[str], str]:
    """What both texts go through before words are compared.

    For English and a tokenizer of Whisper it is Whisper's own normaliser: capitals, punctuation,
    contractions and numbers make no difference. Else it is ``plain``.

    Args:
        tokenizer: the model's.
        language: name or code of the language; empty for English.

    Source: Radford et al. 2022, arXiv 2212.04356, appendix C.
    Differs: without the table of spellings (normalizer.json), "colour" and "color" differ.
    """
    if not hasattr(tokenizer, "english_spelling_normalizer") or language.lower() not in ENGLISH:
        return plain
    return EnglishTextNormalizer(tokenizer.english_spelling_normalizer or {})


def plain(text: str) -> str:
    """A text in lower case, without punctuation and symbols, and with single blanks.

    Example:
        >>> plain("Don't stop -- NOW!")
        'dont stop now'
    """
    return " ".join(_bare(unicodedata.normalize("NFKC", text).lower(), "").split())


def _bare(text: str, known: str) -> str:
    """A text in which apostrophes are left out, and other marks that are not known are blanks."""
    kept = []
    for char in text:
        if char in known or unicodedata.category(char)[0] not in "PS":
            kept.append(char)
        elif char not in "'\u2019":
            kept.append(" ")
    return "".join(kept)


def spelt(tokenizer: Any, text: str, place: str) -> str:
    """A text in the letters of a model that writes letter by letter.

    Capitals follow those of its vocabulary, and punctuation that it does not have is left out.

    Args:
        tokenizer: the model's.
        text: the transcript.
        place: where it stands, for the message.

    Raises:
        DataError: a letter or digit is not in the vocabulary.
    """
    if not hasattr(tokenizer, "word_delimiter_token"):
        return text  # it writes pieces of words
    letters = {token for token in tokenizer.get_vocab() if len(token) == 1}
    upper, lower = (any(map(of, letters)) for of in (str.isupper, str.islower))
    if upper != lower:
        text = text.upper() if upper else text.lower()
    found = " ".join(_bare(text, "".join(letters)).split())
    strange = next((char for char in found if char not in letters and char != " "), None)
    if strange is not None:
        raise DataError(
            f"{place}: the transcript has {strange!r}, which the model's tokenizer cannot write. "
            "Write it with the letters that it has, such as numbers as words."
        )
    return found
