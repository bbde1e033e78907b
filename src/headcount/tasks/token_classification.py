"""A tag for each token: names of people and places, parts of speech, slots."""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from datasets import ClassLabel, Dataset, List
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    EvalPrediction,
    PreTrainedModel,
)

from headcount.door.arguments import check_fields
from headcount.errors import CheckpointError, DataError
from headcount.tasks.bounds import shown
from headcount.tasks.columns import TAGS, TOKENS, find_column, first_rows
from headcount.tasks.encoding import label_names_of, mapped, with_feature
from headcount.tasks.files import read_table, row_name
from headcount.tasks.heads import first_output, load_classifier
from headcount.tasks.measures import entity_measures, label_measures
from headcount.tasks.processors import load_tokenizer
from headcount.tasks.settings import FOUND, described
from headcount.tasks.task import Task

HEAD = "ForTokenClassification"
"""The end of the name of a class with the head of this task."""

NO_LABEL = -100
"""The label of pieces that losses and measures leave out."""

logger = logging.getLogger("headcount")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenClassification(Task):
    """A tag for each token of a sentence: named entities, parts of speech, slots.

    Data are CoNLL files (token first, tag last, an empty line after each sentence; ``.conll``), or
    CoNLL-U (``.conllu``), or tables with a list of tokens and a list of tags in each row (jsonl,
    parquet, the hub). The first piece of a token gets its tag, the others get none.

    Example:
        >>> TokenClassification(metric="accuracy").primary_metric
        'accuracy'

    Source: entities are counted as by the script conlleval, in its strict form for IOB2 tags
        (Ramshaw and Marcus 1995, arXiv cmp-lg/9505040; seqeval).
    """

    name: ClassVar[str] = "token-classification"

    tokens: str = ""
    """The column of tokens; empty to find it by its usual names."""
    tags: str = ""
    """The column of tags; empty to find it by its usual names."""
    metric: Literal["", "entity_f1", "accuracy", "f1"] = ""
    """The measure by which models are compared: ``entity_f1`` (of whole entities), ``accuracy`` or
    ``f1`` (macro) of tags. Empty takes ``entity_f1`` if all tags are like B-PER, I-PER and O, else
    ``accuracy``."""
    names: tuple[str, ...] = field(default=(), metadata={FOUND: True})
    """The tags in the model's order; filled in when the data are read."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return self.tokens, self.tags

    @property
    def primary_metric(self) -> str:
        """The measure by which models are compared, higher = better."""
        return self.metric or "accuracy"

    def describe(self) -> Mapping[str, Any]:
        """The settings that differ from their defaults."""
        return described(self)

    def settled(self, sources: Sequence[str | Path], model: str, *, split: str) -> Self:
        """The task with its columns and its measure found."""
        if self.tokens and self.tags and self.metric:
            return self
        rows = first_rows(sources[0], split=split)
        names, call = list(rows[0]), f"{self.name}: {str(sources[0])!r}"
        tokens = find_column(names, self.tokens, TOKENS, call=call, what="tokens", needed=True)
        rest = [name for name in names if name != tokens]
        tags = find_column(rest, self.tags, TAGS, call=call, what="tags", needed=True)
        # Whether these are good tags, ``read`` says, which knows the lines.
        cells = (row[tags] for row in rows)
        lists = (cell if isinstance(cell, list) else str(cell).split(",") for cell in cells)
        seen = {str(tag).strip() for one in lists for tag in one}
        usual = "entity_f1" if are_entities(seen) else "accuracy"
        return replace(self, tokens=tokens, tags=tags, metric=self.metric or usual)

    def load_processor(self, model: str) -> Any:
        """The model's tokenizer, set to take tokens instead of text.

        Raises:
            CheckpointError: it does not tell which piece belongs to which token.
        """
        tokenizer = load_tokenizer(model)
        if not tokenizer.is_fast:
            raise CheckpointError(
                f"{self.name}: the tokenizer of {model!r} ({type(tokenizer).__name__}) is written "
                "in Python and does not tell which piece belongs to which token. Save a fast one "
                "(tokenizer.json) into its folder."
            )
        try:
            tokenizer(["a"], is_split_into_words=True)
        except AssertionError:  # byte-level ones want a blank in front of each token
            tokenizer = AutoTokenizer.from_pretrained(
                model, trust_remote_code=False, add_prefix_space=True
            )
        return tokenizer

    def read(self, sources: Sequence[str | Path], *, split: str) -> Dataset:
        """Read sentences as lists of tokens and of tags."""
        table = read_table(sources, self.columns, split=split, lists=self.columns)
        both = zip(table[self.tokens], table[self.tags], strict=True)
        for row, (tokens, tags) in enumerate(both):
            if len(tokens) != len(tags) or not tokens:
                place = row_name(table, row)
                raise DataError(
                    f"{self.name}(split={split!r}): {place} has {len(tokens)} tokens and "
                    f"{len(tags)} tags. Give each sentence one tag for each token, and at least "
                    "one token."
                )
        return table

    def encode(
        self,
        table: Dataset,
        processor: Any,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Cut tokens into pieces; the first piece of a token has its tag.

        Args:
            table: the columns of the task, lists of strings.
            processor: the model's tokenizer.
            max_length: longest input in pieces.
            split: the use of the data, named in messages.
            labels: tags in the model's order; None: those that occur, in order.

        Returns:
            The tokenizer's columns, and ``labels``: the number of a tag for each piece, or -100.

        Raises:
            DataError: a tag is unknown.
        """
        golds = list(table[self.tags])
        names = tuple(labels) if labels is not None else _names(golds)
        number = {name: index for index, name in enumerate(names)}
        self._check_known(table, golds, number, split)

        def tokenise(rows: dict[str, list[Any]]) -> dict[str, Any]:
            found = processor(
                rows[self.tokens], is_split_into_words=True, truncation=True, max_length=max_length
            )
            tagged = [
                _on_first_pieces(found.word_ids(row), [number[tag] for tag in tags])
                for row, tags in enumerate(rows[self.tags])
            ]
            return {**found, "labels": tagged}

        encoded = mapped(table, tokenise, split)
        self._tell_lost(golds, encoded["labels"], max_length, split)
        return with_feature(encoded, List(ClassLabel(names=list(names))))

    def _check_known(
        self, table: Dataset, golds: Sequence[Sequence[str]], number: Mapping[str, int], split: str
    ) -> None:
        for row, tags in enumerate(golds):
            strange = [tag for tag in tags if tag not in number]
            if strange:
                place = row_name(table, row)
                raise DataError(
                    f"{self.name}(split={split!r}): the sentence of {place} has the tag "
                    f"{shown(strange[0])}, which the training data or the model do not have; they "
                    f"have {shown(list(number), 400)}. Give training data with it, or leave these "
                    "sentences out."
                )

    def _tell_lost(
        self, golds: Sequence[Sequence[str]], labels: Any, longest: int, split: str
    ) -> None:
        """Say how many tokens are neither learnt nor measured."""
        total = sum(map(len, golds))
        lost = total - sum(label != NO_LABEL for row in labels for label in row)
        if lost:
            logger.warning(
                "%s: %d of %d tokens are left out: behind %d pieces, or without any piece",
                *(split, lost, total, longest),
            )

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """The tags of an encoded data set, in the model's order."""
        return label_names_of(dataset)

    def with_labels(self, labels: tuple[str, ...]) -> Self:
        """The task with its tags, by which entities are told."""
        return replace(self, names=labels)

    def collator(self, processor: Any) -> Callable[[list[Any]], Any]:
        """Pads pieces and labels to the longest row."""
        Task.collator(self, processor)  # refuses a tokenizer without padding
        return DataCollatorForTokenClassification(processor)

    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A pretrained model with a classifier of pieces.

        Raises:
            DataError: the model has a trained classifier for another number of tags.
        """
        return load_classifier(AutoModelForTokenClassification, name_or_path, labels, HEAD)

    def reduce(self, outputs: Any, labels: Any) -> Any:
        """The number of the greatest logit of each piece."""
        return first_output(outputs).argmax(-1)

    def metrics(self, eval_prediction: EvalPrediction) -> dict[str, float]:
        """Accuracy and macro F1 of tags; F1, precision and recall of entities, if tags are such."""
        golds, answers = np.asarray(eval_prediction.label_ids), eval_prediction.predictions
        real = golds != NO_LABEL
        found = label_measures(np.asarray(answers)[real], golds[real])
        del found["matthews"]
        if self.metric != "entity_f1" and not are_entities(self.names):
            return found
        pairs = zip(np.asarray(answers), golds, real, strict=True)
        spelt = [[[self.names[i] for i in row[own]] for row in (a, g)] for a, g, own in pairs]
        return {**found, **entity_measures(*map(list, zip(*spelt, strict=True)))}


def are_entities(names: Collection[str]) -> bool:
    """Whether tags mark entities: O, and beginnings and insides, such as B-PER and I-PER.

    Example:
        >>> are_entities(("O", "B-LOC", "I-LOC")), are_entities(("NOUN", "VERB"))
        (True, False)
    """
    return len(names) > 1 and all(n == "O" or re.match("[BIES]-.", n) for n in names)


def _names(golds: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The tags that occur; the tag for no entity comes first."""
    return tuple(sorted({tag for tags in golds for tag in tags}, key=lambda tag: (tag != "O", tag)))


def _on_first_pieces(words: Sequence[int | None], numbers: Sequence[int]) -> list[int]:
    """For each piece, the label of its token if it is the first piece of it, else -100."""
    before = [None, *words[:-1]]
    return [
        NO_LABEL if word is None or word == last else numbers[word]
        for word, last in zip(words, before, strict=True)
    ]
