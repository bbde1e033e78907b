"""Make examples of one length out of documents, for language models."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from headcount.errors import DataError
from headcount.tasks.encoding import mapped

IGNORED = -100
"""The label of tokens that losses and measures leave out."""


def tokens_of(table: Dataset, tokenizer: Any, *, end: int | None, split: str) -> np.ndarray:
    """The tokens of all documents, one after the other, [T].

    Args:
        table: documents in the column ``text``.
        tokenizer: the model's; special tokens are not added.
        end: the token that goes behind each document; None for none.
        split: the use of the data, for the progress bar.
    """
    tokenise = partial(_tokenised, tokenizer)
    rows = mapped(table, tokenise, split).with_format("numpy")["input_ids"]
    last = [] if end is None else [end]
    return np.concatenate([np.concatenate([row, last]) for row in rows]).astype(np.int64)


def _tokenised(tokenizer: Any, rows: dict[str, list[str]]) -> dict[str, Any]:
    # ``verbose``: documents are longer than the model reads; they are cut into blocks afterwards.
    found = tokenizer(rows["text"], add_special_tokens=False, verbose=False)
    return {"input_ids": found["input_ids"]}


def blocks(tokens: np.ndarray, length: int, *, split: str) -> list[list[int]]:
    """Cut tokens into blocks of one length; the rest makes a shorter one.

    Args:
        tokens: the tokens, [T].
        length: tokens in a block, 2 or more.
        split: the use of the data, named in messages.

    Raises:
        DataError: there are fewer than two tokens.

    Example:
        >>> blocks(np.arange(5), 3, split="train")
        [[0, 1, 2], [3, 4]]
    """
    if len(tokens) < 2:
        raise DataError(f"{split}: the text has {len(tokens)} tokens. Give two or more.")
    starts = range(0, len(tokens), length)
    found = [tokens[start : start + length].tolist() for start in starts]
    # A token alone has nothing in front of it from which it could be told.
    return found if len(found[-1]) > 1 else found[:-1]


def surroundings(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens in front of a text and behind it.

    Raises:
        DataError: the tokenizer puts them elsewhere.
    """
    whole, bare = (
        tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False)
    )
    for start in range(len(whole) - len(bare) + 1):
        if bare and whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise DataError(
        f"{type(tokenizer).__name__}: its special tokens change the text between them, so blocks "
        "cannot be made. Give another model."
    )


def padded(rows: Sequence[dict[str, Any]], *, pad: int) -> dict[str, Tensor]:
    """A batch of blocks: the shorter ones are filled up.

    Args:
        rows: each with ``input_ids`` and ``labels``.
        pad: the token for the end; masked, and without a label.

    Example:
        >>> batch = padded([{"input_ids": [1, 2], "labels": [1, 2]},
        ...                 {"input_ids": [3], "labels": [3]}], pad=0)
        >>> batch["labels"].tolist(), batch["attention_mask"].tolist()
        ([[1, 2], [3, -100]], [[1, 1], [1, 0]])
    """
    longest = max(len(row["input_ids"]) for row in rows)

    def filled(name: str, value: int) -> Tensor:
        each = [[*row[name], *[value] * (longest - len(row[name]))] for row in rows]
        return torch.tensor(each)

    whole = [[1] * len(row["input_ids"]) for row in rows]
    mask = torch.tensor([[*ones, *[0] * (longest - len(ones))] for ones in whole])
    return {
        "input_ids": filled("input_ids", pad),
        "attention_mask": mask,
        "labels": filled("labels", IGNORED),
    }
