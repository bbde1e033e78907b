"""Language models: the next token, or masked ones, of plain text."""

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    EvalPrediction,
    PreTrainedModel,
)

from headcount.door.arguments import check_fields
from headcount.errors import DataError
from headcount.tasks.heads import first_output
from headcount.tasks.packing import IGNORED, blocks, padded, surroundings, tokens_of
from headcount.tasks.settings import described
from headcount.tasks.task import Task
from headcount.tasks.texts import read_documents, text_column

SEED = 0
"""Seed of the masks of ``MaskedLM``."""
_LARGEST = 700.0
"""The largest loss whose perplexity is a number: e to the 710 is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageModelling(Task, abc.ABC):
    """What language models share: documents, blocks of tokens, loss and perplexity.

    The documents are cut into blocks of ``max_length`` tokens (``--max-length``). Files of plain
    text are one document each; in tables, each row is one.
    """

    teaches: ClassVar[Literal["examples", "tokens", "nothing"]] = "tokens"

    text: str = ""
    """The column of texts; empty to find it by its usual names. Plain text has no columns."""
    metric: Literal["perplexity", "loss", "accuracy"] = "perplexity"
    """The measure by which models are compared: ``perplexity`` or ``loss`` (nats for each token),
    of which less is better, or ``accuracy``, the share of tokens that the model finds most likely.
    """

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that is read."""
        return (self.text,)

    @property
    def primary_metric(self) -> str:
        """The measure by which models are compared."""
        return self.metric

    @property
    def greater_is_better(self) -> bool:
        """Whether more of it is better: of accuracy only."""
        return self.metric == "accuracy"

    def describe(self) -> Mapping[str, Any]:
        """The settings that differ from their defaults."""
        return described(self)

    def settled(self, sources: Sequence[str | Path], model: str, *, split: str) -> Self:
        """The task with its column found; evaluation data have the same one."""
        if self.text:
            return self
        found = text_column(sources, self.text, call=self.name, split=split)
        return replace(self, text=found)

    def read(self, sources: Sequence[str | Path], *, split: str) -> Dataset:
        """Read documents."""
        return read_documents(sources, self.text, split=split)

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """None: the labels are tokens."""
        return ()

    def collator(self, processor: Any) -> Callable[[list[Any]], Any]:
        """Fills up the last block, which may be shorter; no token for padding is needed."""
        pad = processor.pad_token_id
        return partial(padded, pad=0 if pad is None else pad)

    def reduce(self, outputs: Any, labels: Any) -> Any:
        """For each token, its loss, and whether it is the most likely one: [B, T], [B, T]."""
        logits, golds = self._aligned(first_output(outputs), labels)
        # [B, V, T], as the loss wants them; in half precision, a sum over so many would be wrong.
        each = cross_entropy(
            logits.transpose(1, 2).float(), golds, ignore_index=IGNORED, reduction="none"
        )
        return each, logits.argmax(-1) == golds

    @abc.abstractmethod
    def _aligned(self, logits: Any, labels: Any) -> tuple[Any, Any]:
        """Logits and the labels that they are about, [B, T, V] and [B, T]."""

    def metrics(self, eval_prediction: EvalPrediction) -> dict[str, float]:
        """Perplexity, loss and accuracy over all tokens that have a label.

        Raises:
            DataError: no token has one.
        """
        losses, right = (np.asarray(part) for part in eval_prediction.predictions)
        golds = np.asarray(eval_prediction.label_ids)
        told = self._aligned(golds[..., None], golds)[1] != IGNORED
        if not told.any():
            raise DataError(f"{self.name}: no token of the evaluation data can be predicted.")
        loss = float(losses[told].mean(dtype=np.float64))
        return {
            "perplexity": math.exp(min(loss, _LARGEST)),
            "loss": loss,
            "accuracy": float(right[told].mean()),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalLM(LanguageModelling):
    """Predict each token from those before it: GPT-like models, Llama, Qwen, SmolLM and others.

    Perplexity is by token: models with different tokenizers cannot be compared by it. The first
    token of a block is not predicted.

    Example:
        >>> CausalLM().primary_metric, CausalLM().greater_is_better
        ('perplexity', False)
    """

    name: ClassVar[str] = "causal-lm"

    def encode(
        self,
        table: Dataset,
        processor: Any,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Put documents one behind the other, and cut them into blocks.

        Args:
            table: documents in the column ``text``.
            processor: the model's tokenizer; its end token goes behind each document.
            max_length: tokens in a block.
            split: the use of the data, named in messages.
            labels: not used.

        Returns:
            ``input_ids``, and ``labels``, which are the same: the model shifts them itself.

        Raises:
            DataError: there are fewer than two tokens.
        """
        found = tokens_of(table, processor, end=processor.eos_token_id, split=split)
        rows = blocks(found, max_length, split=split)
        return Dataset.from_dict({"input_ids": rows, "labels": rows})

    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A pretrained model with its head over the vocabulary."""
        return AutoModelForCausalLM.from_pretrained(name_or_path, trust_remote_code=False)

    def _aligned(self, logits: Any, labels: Any) -> tuple[Any, Any]:
        return logits[:, :-1], labels[:, 1:]


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedLM(LanguageModelling):
    """Predict masked tokens from those around them: BERT-like models.

    Which tokens are masked is drawn once, when the data are read, by a fixed seed: so every model
    is asked the same, and a resumed run sees what it would have seen. Of the tokens drawn, 80%
    become the mask, 10% another token, and 10% stay.

    Example:
        >>> MaskedLM(share=0.2).share
        0.2

    Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1.
    Differs: each text is masked once, not in ten ways.
    """

    name: ClassVar[str] = "masked-lm"

    share: float = 0.15
    """The share of tokens that are to be predicted."""

    def __post_init__(self) -> None:
        LanguageModelling.__post_init__(self)
        if not 0 < self.share < 1:
            raise DataError(f"MaskedLM(share={self.share!r}): give a share above 0 and below 1.")

    def encode(
        self,
        table: Dataset,
        processor: Any,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Cut documents into blocks between special tokens, and mask them.

        Args:
            table: documents in the column ``text``.
            processor: the model's tokenizer.
            max_length: tokens in a block, special ones included.
            split: the use of the data, named in messages.
            labels: not used.

        Returns:
            ``input_ids``, and ``labels``: -100 for tokens that are not to be predicted.

        Raises:
            DataError: the tokenizer has no mask, or there are fewer than two tokens.
        """
        mask = processor.mask_token_id
        if mask is None:
            raise DataError(
                f"{self.name}: the tokenizer {type(processor).__name__} has no mask. Give a model "
                "for masked text, such as BERT, or the task causal-lm."
            )
        first, last = surroundings(processor)
        found = tokens_of(table, processor, end=None, split=split)
        room = max_length - len(first) - len(last)
        generator = np.random.default_rng(SEED)
        inputs: list[list[int]] = []
        golds: list[list[int]] = []
        for row in blocks(found, room, split=split):
            tokens = np.array(row)
            drawn, shown = masked(
                tokens, self.share, mask=mask, vocabulary=len(processor), generator=generator
            )
            inputs.append([*first, *shown.tolist(), *last])
            told = np.where(drawn, tokens, IGNORED).tolist()
            golds.append([*[IGNORED] * len(first), *told, *[IGNORED] * len(last)])
        return Dataset.from_dict({"input_ids": inputs, "labels": golds})

    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A pretrained model with its head over the vocabulary."""
        return AutoModelForMaskedLM.from_pretrained(name_or_path, trust_remote_code=False)

    def _aligned(self, logits: Any, labels: Any) -> tuple[Any, Any]:
        return logits, labels


def masked(
    tokens: np.ndarray,
    share: float,
    *,
    mask: int,
    vocabulary: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the tokens that are to be predicted, at least one, and hide them.

    Args:
        tokens: a text, [T].
        share: the share to draw.
        mask: the token of a mask.
        vocabulary: number of tokens that there are.
        generator: draws.

    Returns:
        Whether each token was drawn, [T], and what the model is shown, [T].

    Example:
        >>> generator = np.random.default_rng(0)
        >>> drawn, shown = masked(np.arange(9), 0.2, mask=99, vocabulary=50, generator=generator)
        >>> int(drawn.sum()), bool((shown[~drawn] == np.arange(9)[~drawn]).all())
        (2, True)
    """
    number = max(1, round(share * len(tokens)))
    places = generator.permutation(len(tokens))[:number]
    drawn = np.zeros(len(tokens), dtype=bool)
    drawn[places] = True
    kind = generator.random(len(tokens))
    others = generator.integers(vocabulary, size=len(tokens))
    hidden = np.where(kind < 0.8, mask, np.where(kind < 0.9, others, tokens))
    return drawn, np.where(drawn, hidden, tokens)
