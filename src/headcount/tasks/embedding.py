"""Sentence vectors: learn to do as the dense encoder does, from plain text."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from accelerate.utils import send_to_device
from datasets import Dataset, List, Value
from datasets.fingerprint import generate_random_fingerprint
from datasets.utils import tqdm
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    TrainingArguments,
)

from headcount.checkpoints.loading import loading
from headcount.door.arguments import check_fields
from headcount.errors import DataError
from headcount.evidence.gate_grads import without_labels
from headcount.tasks.bounds import shown
from headcount.tasks.columns import LABELS, PAIRS, TEXTS, find_column, first_rows
from headcount.tasks.encoding import mapped, number_at
from headcount.tasks.files import read_table
from headcount.tasks.measures import correlations
from headcount.tasks.sentences import SentenceProcessor, last_hidden, relative_error
from headcount.tasks.settings import FOUND, described
from headcount.tasks.task import LossFunction, Task
from headcount.tasks.texts import is_plain

SCORE = "score"
"""The column of an encoded evaluation set that holds the score of a pair; nan for a single text."""
_BATCH = 64
"""Texts in a batch of the dense model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Embedding(Task):
    """Sentence vectors as the dense encoder makes them, learnt without labels.

    Training data are texts; the model learns to give each the vector of the dense model. Evaluation
    data are pairs of texts with scores, such as STS-B, or texts. How vectors come out of the last
    hidden states (pooling, normalisation) is read from the encoder's ``modules.json``, and the
    result is an encoder that sentence-transformers loads.

    Example:
        >>> Embedding(metric="cosine").primary_metric
        'cosine'

    Source: Reimers and Gurevych 2020, arXiv 2004.09813, section 2: a student learns the vectors of
        its teacher. Reimers and Gurevych 2019, arXiv 1908.10084: pooling and Spearman's
        correlation of cosines.
    Differs: the distance is relative to the length of the teacher's vectors.
    """

    name: ClassVar[str] = "embedding"
    teaches: ClassVar[Literal["examples", "tokens", "nothing"]] = "nothing"
    is_trained: ClassVar[bool] = True

    text: str = ""
    """The column of texts; empty to find it, and that of second texts, by their usual names."""
    pair: str = ""
    """The column of second texts. In training data, they are further texts."""
    score: str = ""
    """The column of scores in evaluation data; empty to find it by its usual names."""
    metric: Literal["", "spearman", "pearson", "cosine"] = ""
    """The measure by which models are compared: ``spearman`` or ``pearson`` (correlation of the
    cosines of pairs with their scores), or ``cosine`` (mean cosine of each text's vector and the
    dense model's). Empty takes ``spearman`` if the evaluation data have scores, else ``cosine``."""
    prompt: str = ""
    """What goes in front of each text; empty takes the encoder's own."""
    dense: str = field(default="", metadata={FOUND: True})
    """The dense model; filled in when there are training data."""
    processor: Any = field(default=None, metadata={FOUND: True}, compare=False)
    """Makes vectors out of hidden states; filled in by ``load_processor``."""

    def __post_init__(self) -> None:
        check_fields(self, but=("processor",))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of evaluation data that are read."""
        return tuple(name for name in (self.text, self.pair, self.score) if name)

    @property
    def primary_metric(self) -> str:
        """The measure by which models are compared, higher = better."""
        return self.metric or "spearman"

    def describe(self) -> Mapping[str, Any]:
        """The settings that differ from their defaults."""
        return described(self)

    def settled(self, sources: Sequence[str | Path], model: str, *, split: str) -> Self:
        """The task with its dense model, and with the columns and measure of evaluation data."""
        if split == "train":
            return replace(self, dense=model, processor=self.load_processor(model))
        known = replace(self, processor=self.processor or self.load_processor(model))
        if is_plain(sources[0]) or (self.text and self.pair and self.score and self.metric):
            return replace(known, metric=self.metric or "cosine")
        names = list(first_rows(sources[0], split=split)[0])
        call = f"{self.name}: {str(sources[0])!r}"
        text = find_column(names, self.text, TEXTS, call=call, what="text", needed=True)
        rest = [name for name in names if name != text]
        pair = find_column(rest, self.pair, PAIRS, call=call, what="pair", needed=False)
        rest = [name for name in rest if name != pair]
        asked = self.metric in ("spearman", "pearson")
        score = find_column(rest, self.score, SCORES, call=call, what="score", needed=asked)
        if not pair and (score or asked):
            find_column(rest, self.pair, PAIRS, call=call, what="pair", needed=True)
        usual = "spearman" if score else "cosine"
        return replace(known, text=text, pair=pair, score=score, metric=self.metric or usual)

    def load_processor(self, model: str) -> SentenceProcessor:
        """The tokenizer and the modules behind the Transformer, by sentence-transformers.

        Raises:
            CheckpointError: sentence-transformers cannot load the model.
            MissingPackageError: sentence-transformers is not installed.
        """
        return self.processor or SentenceProcessor.load(model, prompt=self.prompt)

    def check_processor(self, processor: SentenceProcessor, max_length: int) -> None:
        """Refuse a longest input that the tokenizer does not allow."""
        Task.check_processor(self, processor.tokenizer, max_length)

    def read(self, sources: Sequence[str | Path], *, split: str) -> Dataset:
        """Read texts, each once; or pairs with scores."""
        if split != "train" and self.score:
            return read_table(sources, self.columns, split=split)
        texts = [text for source in sources for text in self._texts(source, split)]
        found = [*dict.fromkeys(text for text in texts if text.strip())]
        if not found:
            raise DataError(
                f"{self.name}(split={split!r}): {shown(list(map(str, sources)))} have nothing but "
                "blanks. Give files with text."
            )
        return Dataset.from_dict({"text": found})

    def _texts(self, source: str | Path, split: str) -> list[str]:
        """The texts of a source, in all columns that hold texts."""
        if is_plain(source):
            return list(read_table([source], ["text"], split=split)["text"])
        names = list(first_rows(source, split=split)[0])
        call = f"{self.name}: {str(source)!r}"
        # The columns that are set are those of pairs; a file with others may be read, too.
        given = [name if name in names else "" for name in (self.text, self.pair)]
        text = find_column(names, given[0], TEXTS, call=call, what="text", needed=True)
        rest = [name for name in names if name != text]
        pair = find_column(rest, given[1], PAIRS, call=call, what="pair", needed=False)
        columns = [name for name in (text, pair) if name]
        table = read_table([source], columns, split=split)
        return [text for name in columns for text in table[name]]

    def encode(
        self,
        table: Dataset,
        processor: SentenceProcessor,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Tokenise texts, and ask the dense model for their vectors.

        Args:
            table: what ``read`` returns.
            processor: what ``load_processor`` returns.
            max_length: longest input in tokens.
            split: the use of the data, named in messages.
            labels: not used.

        Returns:
            The tokenizer's columns; ``labels``, the vectors of the dense model, if it is known; and
            ``score`` in evaluation data, for the first text of a pair, which the second follows.

        Raises:
            DataError: a score is no number.
        """
        texts, scores = self._flat(table)
        prompted = Dataset.from_dict({"text": [processor.prompt + text for text in texts]})

        def tokenise(rows: dict[str, list[Any]]) -> dict[str, Any]:
            return dict(processor.tokenizer(rows["text"], truncation=True, max_length=max_length))

        encoded = mapped(prompted, tokenise, split)
        if self.dense:
            with loading(self.dense):
                whole = self.load_model(self.dense, ())
            collator = self.collator(processor)
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            told = f"dense vectors, {split}"
            found = self._vectors(whole.to(device), encoded, collator, _BATCH, told=told)  # pyright: ignore[reportArgumentType]
            encoded = encoded.add_column(
                "labels",
                found.tolist(),
                new_fingerprint=generate_random_fingerprint(),
                feature=List(Value("float32")),
            )
        if split == "train":
            return encoded
        own = generate_random_fingerprint()
        return encoded.add_column(SCORE, scores, new_fingerprint=own, feature=Value("float64"))

    def _flat(self, table: Dataset) -> tuple[list[str], list[float]]:
        """All texts, and for each the score of the pair that begins with it, else nan."""
        if not self.score or self.score not in table.column_names:
            texts = list(table["text"])
            return texts, [math.nan] * len(texts)
        pairs = zip(table[self.text], table[self.pair], strict=True)
        golds = enumerate(table[self.score])
        numbers = [number_at(table, i, self.score, gold, call=self.name) for i, gold in golds]
        return [text for pair in pairs for text in pair], [
            score for number in numbers for score in (number, math.nan)
        ]

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """None: the labels are vectors."""
        return ()

    def collator(self, processor: SentenceProcessor) -> Callable[[list[Any]], Any]:
        """Pads to the longest text; ``labels`` has the vectors and the mask of the tokens."""
        Task.collator(self, processor.tokenizer)  # refuses a tokenizer without padding
        return partial(_batch, DataCollatorWithPadding(processor.tokenizer))

    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A Transformer without a head; of an encoder-decoder, the encoder."""
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
        auto: Any = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
        return auto.from_pretrained(name_or_path, trust_remote_code=False)

    def loss_function(self) -> LossFunction:
        """``relative_error`` of the vectors."""

        def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
            found = self.processor.vectors(last_hidden(outputs), labels["attention_mask"])
            return relative_error(found, labels["vectors"])

        return loss

    def predict(
        self,
        model: PreTrainedModel,
        dataset: Dataset,
        collator: Callable[[list[Any]], Any],
        args: TrainingArguments,
    ) -> EvalPrediction:
        """The vector of each text, and as labels (scores, the dense model's vectors or nothing)."""
        moved: Any = model.to(args.device)  # pyright: ignore[reportArgumentType]
        found = self._vectors(moved, dataset, collator, args.eval_batch_size, told="vectors")
        plain = dataset.with_format("numpy")
        dense = plain["labels"][:] if "labels" in dataset.column_names else np.zeros((0, 0))
        golds: Any = (np.asarray(plain[SCORE][:]), np.asarray(dense))
        return EvalPrediction(predictions=found, label_ids=golds)

    def _vectors(
        self,
        model: PreTrainedModel,
        dataset: Dataset,
        collator: Callable[[list[Any]], Any],
        batch_size: int,
        *,
        told: str,
    ) -> np.ndarray:
        """The vector of each text, in the order of the data: [E, D]."""
        order = np.argsort([*self.sizes(dataset)], kind="stable")
        found: list[np.ndarray] = []
        model.eval()
        for start in tqdm(range(0, len(order), batch_size), desc=told):
            rows = [dataset[int(i)] for i in order[start : start + batch_size]]
            inputs: Any = send_to_device(without_labels(collator(rows)), model.device)
            with torch.no_grad():
                hidden = last_hidden(model(**inputs))
                vectors = self.processor.vectors(hidden, inputs["attention_mask"])
            found.append(vectors.float().cpu().numpy())
        return np.concatenate(found)[np.argsort(order)]

    def metrics(self, eval_prediction: EvalPrediction) -> dict[str, float]:
        """Correlation of cosines with scores, and the mean cosine to the dense model's vectors.

        Raises:
            DataError: what models are compared by cannot be measured.
        """
        vectors = np.asarray(eval_prediction.predictions, dtype=np.float64)
        golds: Any = eval_prediction.label_ids
        scores, dense = golds
        found: dict[str, float] = {}
        first = np.flatnonzero(~np.isnan(scores))
        if len(first):
            found |= correlations(_cosines(vectors[first], vectors[first + 1]), scores[first])
        if len(dense):
            found["cosine"] = float(_cosines(vectors, dense).mean())
        if self.primary_metric not in found:
            raise DataError(
                f"{self.name}(metric={self.primary_metric!r}): it cannot be measured here. The "
                "cosine needs the dense model, which prune and compare know; the correlations need "
                "pairs of texts with scores."
            )
        return found


SCORES = tuple(name for name in LABELS if name not in ("class", "category", "intent"))
"""Usual names of the column of scores."""


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return (one * other).sum(-1) / np.maximum(lengths, np.finfo(np.float64).tiny)


def _batch(pad: Callable[[list[Any]], Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    # The score is no input of a model, and the Trainer does not see evaluation data.
    names = [name for name in rows[0] if name not in ("labels", SCORE)]
    batch = dict(pad([{name: row[name] for name in names} for row in rows]))
    if "labels" in rows[0]:
        vectors = torch.tensor([row["labels"] for row in rows])
        batch["labels"] = {"vectors": vectors, "attention_mask": batch["attention_mask"]}
    return batch
