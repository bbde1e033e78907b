"""Task heads: check those that models have, and read what they put out."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from headcount.errors import DataError

logger = logging.getLogger("headcount")

_SHOWN = 20


def is_classifier(config: PreTrainedConfig, ending: str) -> bool:
    """Whether a model has a trained classifier of a kind.

    Args:
        config: its configuration.
        ending: the end of the class's name, such as ``ForSequenceClassification``.

    Example:
        >>> is_classifier(PreTrainedConfig(architectures=["BertModel"]), "ForTokenClassification")
        False
    """
    return any(name.endswith(ending) for name in config.architectures or [])


def check_head(
    source: str | Path, labels: Sequence[str], ending: str, *, replaceable: bool = False
) -> None:
    """Refuse a model with a trained classifier for another number of labels.

    Another order of the labels only gets a warning: training may correct it.

    Args:
        source: a folder, or a model of the hub.
        labels: the labels in order.
        ending: see ``is_classifier``.
        replaceable: whether the task has the setting ``new_head``, for the message.

    Raises:
        DataError: the model has another number of labels.
    """
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if not is_classifier(config, ending):
        return
    own = tuple(str(name) for _, name in sorted((config.id2label or {}).items()))
    if len(own) != len(labels):
        raise DataError(
            f"load_model({str(source)!r}, {_listed(labels)}): the model classifies into "
            f"{_listed(own)}. Give data with {len(own)} labels, or a model without classifier"
            + (", or new_head=True (--task-set new_head=true) for a new one." * replaceable or ".")
        )
    folded = [[name.casefold() for name in names] for names in (own, labels)]
    if sorted(folded[0]) == sorted(folded[1]) and folded[0] != folded[1]:
        logger.warning(
            "%s: its classifier has the label order %s, the data have %s: train it, or give "
            "dataset(labels=) its order",
            *(source, own, tuple(labels)),
        )


def _listed(labels: Sequence[str]) -> str:
    """All labels, if they are few; ImageNet has a thousand."""
    few = tuple(labels[:_SHOWN])
    return str(few) if len(labels) <= _SHOWN else f"{len(labels)} labels, {few[0]!r} first"


def load_classifier(
    auto: Any,
    source: str | Path,
    labels: Sequence[str],
    ending: str,
    *,
    new_head: bool | None = None,
    **more: Any,
) -> PreTrainedModel:
    """A pretrained model with a classifier over labels.

    Args:
        auto: the Auto class, such as ``AutoModelForTokenClassification``.
        source: a folder, or a model of the hub, which is downloaded.
        labels: the labels in order.
        ending: see ``is_classifier``.
        new_head: whether a classifier for another number of labels is replaced by a new one; None
            if the task has no such setting.
        **more: further fields of the configuration.

    Raises:
        DataError: the model has a trained classifier for another number of labels.
    """
    if not new_head:
        check_head(source, labels, ending, replaceable=new_head is not None)
    if new_head:
        more["ignore_mismatched_sizes"] = True
    return auto.from_pretrained(
        source,
        trust_remote_code=False,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        **more,
    )


def unnamed(labels: Sequence[str]) -> bool:
    """Whether labels are the numbers that transformers gives to labels without names.

    Example:
        >>> unnamed(("LABEL_0", "LABEL_1")), unnamed(("bad", "good"))
        (True, False)
    """
    return all(name.upper() == f"LABEL_{number}" for number, name in enumerate(labels))


def first_output(outputs: Any) -> Any:
    """The logits: models that also return hidden states return a tuple, logits first.

    Example:
        >>> first_output(("logits", "hidden states"))
        'logits'
    """
    return outputs[0] if isinstance(outputs, tuple) else outputs
