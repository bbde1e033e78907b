"""Recognition of speech: what was said, in writing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from datasets import Dataset, List, Value
from datasets.utils import tqdm
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCTC,
    AutoModelForSpeechSeq2Seq,
    EvalPrediction,
    PreTrainedModel,
    TrainingArguments,
)

from headcount.door.arguments import check_fields
from headcount.door.extras import needing
from headcount.errors import BudgetError, DataError
from headcount.tasks.audio import RECORDINGS, decoded
from headcount.tasks.bounds import shown
from headcount.tasks.heads import first_output, is_classifier
from headcount.tasks.listening import listener_of, load_speech_processor, normaliser
from headcount.tasks.media import read_media, with_files
from headcount.tasks.settings import FOUND, described
from headcount.tasks.speech_inputs import (
    SpeechCollator,
    check_gold,
    features_of,
    is_masked,
    moved_to,
    reads,
    tokens_of,
)
from headcount.tasks.task import Task

SIZE = "num_samples"
"""The column of an encoded data set that holds the length of each recording."""
EXAMPLE_S = 10.0
"""Seconds of the recordings with which models that read any length are timed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechRecognition(Task):
    """What is said in a recording, by models like Whisper or with CTC like wav2vec 2.0.

    Data are tables with a column of paths and one of transcripts, folders of recordings with
    ``metadata.csv`` or with a text file beside each, or data sets of the hub. Every recording is
    decoded once when the data are read, so that none fails later. What is kept is the file; the
    collator decodes it again for each batch.

    Example:
        >>> SpeechRecognition(metric="cer").primary_metric
        'cer'
        >>> SpeechRecognition().greater_is_better
        False
    """

    name: ClassVar[str] = "speech-recognition"
    teaches: ClassVar[Literal["examples", "tokens", "nothing"]] = "tokens"

    audio: str = ""
    """The column of recordings: paths, seen from the folder of the table, or recordings."""
    text: str = ""
    """The column of transcripts."""
    metric: Literal["wer", "cer"] = "wer"
    """The measure by which models are compared: the share of wrong words, or of wrong letters."""
    language: str = ""
    """The language, such as ``german``, for models of several languages that are told it."""
    max_seconds: float = 30.0
    """The longest recording; 30 is also the most that Whisper reads. Longer ones are refused."""
    model: str = field(default="", metadata={FOUND: True})
    """The model that reads the data; filled in by ``settled``."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.max_seconds < float("inf"):
            raise DataError(
                f"SpeechRecognition(max_seconds={self.max_seconds!r}): give a positive number of "
                "seconds."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are given; others are found."""
        return tuple(name for name in (self.audio, self.text) if name)

    @property
    def primary_metric(self) -> str:
        """The measure by which models are compared, lower = better."""
        return self.metric

    @property
    def greater_is_better(self) -> bool:
        """False: both measures are rates of errors."""
        return False

    def describe(self) -> Mapping[str, Any]:
        """The settings that differ from their defaults."""
        return described(self)

    def settled(self, sources: Sequence[str | Path], model: str, *, split: str) -> Self:
        """The task with the model that reads the data."""
        return replace(self, model=str(model))

    def load_processor(self, model: str) -> Any:
        """The model's processor: a feature extractor and a tokenizer.

        Raises:
            CheckpointError: there is no such model, or it lacks one of them.
            DataError: the tokenizer does not know the language.
            MissingPackageError: jiwer or soundfile is not installed.
        """
        with needing(self.name):
            import jiwer  # noqa: F401
            import soundfile  # noqa: F401
        processor = load_speech_processor(model)
        if self.language:
            self._set_language(processor.tokenizer)
        return processor

    def _set_language(self, tokenizer: Any) -> None:
        try:
            tokenizer.set_prefix_tokens(language=self.language, task="transcribe")
            # Wrong names are told only when the tokens are made.
            tokenizer.prefix_tokens  # noqa: B018
        except (AttributeError, ValueError) as error:
            raise DataError(
                f"{self.name}: the model's tokenizer does not know language={self.language!r}. "
                "Leave language out for a model of one language, or give a name such as 'german'."
            ) from error

    def check_model(self, model: str, max_length: int) -> None:
        """Refuse a model that does not recognise speech, or writes shorter texts.

        Raises:
            DataError: says why.
        """
        most = listener_of(model).most_tokens
        if most is not None and max_length > most:
            raise DataError(
                f"max_length={max_length}: the model {model!r} writes at most {most} tokens. Give "
                f"{most} or fewer."
            )

    def check_processor(self, processor: Any, max_length: int) -> None:
        """Refuse what makes no inputs out of recordings.

        Raises:
            DataError: it is no processor of speech.
        """
        if not hasattr(getattr(processor, "feature_extractor", None), "sampling_rate"):
            raise DataError(
                f"dataset(processor={type(processor).__name__}): it makes no inputs of recordings. "
                "Give the model's processor, as load_processor returns it."
            )

    def read(self, sources: Sequence[str | Path], *, split: str) -> Dataset:
        """Read which recordings there are and their transcripts; see ``read_media``."""
        return read_media(sources, RECORDINGS, column=self.audio, text=self.text, split=split)

    def encode(
        self,
        table: Dataset,
        processor: Any,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Decode every recording once, and tokenise the transcripts.

        Args:
            table: what ``read`` returns.
            processor: the model's processor.
            max_length: the longest transcript in tokens, for models that generate.
            split: the use of the data, named in messages.
            labels: not used.

        Returns:
            The model's input, such as ``input_features``: the files, of which ``collator`` makes
            it; ``labels``, the tokens; ``text``, the transcript; and ``num_samples``.

        Raises:
            DataError: a recording cannot be read or is too long, or a transcript is empty, too
                long, or has letters that the model does not.
        """
        listener = listener_of(self.model or processor.tokenizer.name_or_path)
        rate, most_s = reads(processor, self.max_seconds)
        bare = normaliser(processor.tokenizer, self.language)
        sizes, golds = [], []
        for row in tqdm(table, desc=f"checking recordings of {split}"):
            place, text = row["place"], row["text"].strip()
            if not any(map(str.isalnum, bare(text))):
                raise DataError(
                    f"{place} has the transcript {shown(row['text'])}, in which no word is left "
                    "once punctuation is taken away. Give the words, or leave the row out."
                )
            sizes.append(len(decoded(row["file"], place, rate=rate, most_s=most_s)))
            golds.append(tokens_of(processor.tokenizer, text, listener, place))
            check_gold(golds[-1], sizes[-1], listener, max_length, place)
        name = processor.feature_extractor.model_input_names[0]
        columns = {
            "labels": (golds, List(Value("int64"))),
            "text": (list(table["text"]), Value("string")),
            SIZE: (sizes, Value("int64")),
        }
        return with_files(table, name, columns)

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """None: texts are no labels."""
        return ()

    def collator(self, processor: Any) -> SpeechCollator:
        """Decodes the recordings of a batch and makes features of them."""
        return SpeechCollator(processor=processor, max_seconds=self.max_seconds)

    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A pretrained speech model: one that generates, or one with a CTC head.

        A CTC head is new where the model has none; it has an output for each token of the
        tokenizer. The CTC loss is the mean over examples.

        Args:
            name_or_path: a folder, or a model of the hub, which is downloaded.
            labels: not used.
        """
        given: dict[str, Any] = {"trust_remote_code": False}
        if not listener_of(str(name_or_path)).is_ctc:
            return AutoModelForSpeechSeq2Seq.from_pretrained(name_or_path, **given)
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
        if not is_classifier(config, "ForCTC"):
            tokenizer = load_speech_processor(str(name_or_path)).tokenizer
            given |= {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        return AutoModelForCTC.from_pretrained(name_or_path, ctc_loss_reduction="mean", **given)

    def metrics(self, eval_prediction: EvalPrediction) -> dict[str, float]:
        """The rates of wrong words and of wrong letters, over all recordings together.

        Args:
            eval_prediction: normalised texts, and the right ones.

        Example:
            >>> given, right = np.array(["a big cat"]), np.array(["a big hat"])
            >>> found = EvalPrediction(predictions=given, label_ids=right)
            >>> round(SpeechRecognition().metrics(found)["wer"], 3)
            0.333

        Source: Morris, Maier, Green 2004, "From WER and RIL to MER and WIL", section 2.
        """
        with needing(self.name):
            import jiwer
        golds, found = (
            [str(text) for text in np.asarray(texts)]
            for texts in (eval_prediction.label_ids, eval_prediction.predictions)
        )
        return {"wer": float(jiwer.wer(golds, found)), "cer": float(jiwer.cer(golds, found))}

    def predict(
        self,
        model: PreTrainedModel,
        dataset: Dataset,
        collator: Any,
        args: TrainingArguments,
    ) -> EvalPrediction:
        """The texts that a model writes, greedily, and the right ones; both normalised.

        A model to which padding is silence, such as the first wav2vec 2.0, gets one recording at a
        time: its answers would depend on the others of the batch.

        Args:
            model: the model; it is moved to the device of ``args``.
            dataset: the data, as ``dataset`` returns them.
            collator: what ``collator`` returns.
            args: batch size and device.
        """
        moved: Any = model.to(args.device).eval()  # pyright: ignore[reportArgumentType]
        tokenizer = collator.processor.tokenizer
        order = np.argsort(dataset[SIZE], kind="stable")
        texts = [""] * len(order)
        size = args.eval_batch_size if is_masked(collator.processor) else 1
        for start in tqdm(range(0, len(order), size), desc="listening"):
            rows = [int(row) for row in order[start : start + size]]
            batch = collator([dataset[row] for row in rows])
            del batch["labels"]
            inputs = moved_to(batch, moved)
            with torch.no_grad():
                ids = self._answers(moved, inputs, [dataset[row][SIZE] for row in rows], tokenizer)
            found = tokenizer.batch_decode(ids, skip_special_tokens=True)
            for row, text in zip(rows, found, strict=True):
                texts[row] = text
        bare = normaliser(tokenizer, self.language)
        return EvalPrediction(
            predictions=np.array([bare(text) for text in texts]),
            label_ids=np.array([bare(text) for text in dataset["text"]]),
        )

    def _answers(
        self, model: Any, inputs: dict[str, Tensor], sizes: Sequence[int], tokenizer: Any
    ) -> Tensor:
        """The tokens that a model writes for a batch, [B, T]."""
        if model.can_generate():
            spoken = {"language": self.language, "task": "transcribe"} if self.language else {}
            return model.generate(**inputs, do_sample=False, num_beams=1, **spoken)
        ids = first_output(model(**inputs).logits).argmax(-1)
        length = getattr(model, "_get_feat_extract_output_lengths", None)
        if length is not None and "input_values" in inputs:
            # What stands behind the end of a recording is an answer to padding.
            ends = length(torch.tensor(sizes, device=ids.device))
            behind = torch.arange(ids.shape[1], device=ids.device) >= ends[:, None]
            ids = ids.masked_fill(behind, tokenizer.pad_token_id)
        return ids

    def sizes(self, dataset: Dataset) -> list[int]:
        """The number of samples of each recording."""
        return list(dataset[SIZE])

    def example(
        self, model: PreTrainedModel, processor: Any, *, batch: int, length: int
    ) -> dict[str, Tensor]:
        """Recordings of noise, the same at every call, and tokens for the decoder.

        Args:
            model: the model.
            processor: the model's processor.
            batch: number of recordings: as long as the model reads, or of 10 seconds with CTC.
            length: tokens of the decoder; not used with CTC.

        Raises:
            BudgetError: the batch is empty, or the model does not write so many tokens.
        """
        config: Any = model.config
        most = getattr(config, "max_target_positions", None) if model.can_generate() else None
        if batch < 1 or length < 1 or (most is not None and length > most):
            raise BudgetError(
                f"latency_batch={batch}, latency_length={length}: give 1 or more for each, and at "
                f"most {most} tokens, which the model writes."
            )
        rate, most_s = reads(processor, EXAMPLE_S)
        generator = torch.Generator().manual_seed(0)
        noise = 0.1 * torch.randn(batch, round(rate * most_s), generator=generator)
        inputs = features_of(processor, [*noise.numpy()])
        if model.can_generate():
            shape = (batch, length)
            ids = torch.randint(config.vocab_size, shape, generator=generator)
            inputs["decoder_input_ids"] = ids
        return moved_to(inputs, model)
