"""Find the Auto classes and the pipeline of transformers that load a model."""

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from headcount.architectures.stock import stock_class

_FIRST = (
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForMultipleChoice",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForSeq2SeqLM",
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModelForImageTextToText",
    "AutoModelForImageClassification",
    "AutoModelForAudioClassification",
    "AutoModelForCTC",
    "AutoModel",
)
"""If several Auto classes load a model, the first of these is best: it says most about its use."""

_PIPELINES = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSpeechSeq2Seq": "automatic-speech-recognition",
    "AutoModelForImageTextToText": "image-text-to-text",
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForAudioClassification": "audio-classification",
    "AutoModelForCTC": "automatic-speech-recognition",
    "AutoModel": "feature-extraction",
}
"""Auto class -> the name of the pipeline for its models."""


def auto_classes(model: PreTrainedModel) -> tuple[str, ...]:
    """The names of all Auto classes that load a model, the best first. Some parts have none.

    Example:
        >>> import transformers
        >>> auto_classes(transformers.BertForMaskedLM(transformers.BertConfig(num_hidden_layers=1)))
        ('AutoModelForMaskedLM',)
    """
    kind, name = model.config.model_type, stock_class(type(model)).__name__
    found = [auto for auto, table in _tables() if name in _classes(table.get(kind, ()))]
    return tuple(sorted(found, key=_place))


def _place(auto: str) -> tuple[int, str]:
    """The sort key of an Auto class: first those of ``_FIRST``, then by name, pretraining last."""
    if auto in _FIRST:
        return _FIRST.index(auto), auto
    return len(_FIRST) + (auto == "AutoModelForPreTraining"), auto


def _tables() -> Iterator[tuple[str, dict[str, Any]]]:
    for auto, cls in vars(modeling_auto).items():
        mapping = vars(cls).get("_model_mapping") if isinstance(cls, type) else None
        if mapping is not None:
            yield auto, mapping._model_mapping


def _classes(entry: Any) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(entry)


def auto_class(model: PreTrainedModel) -> str:
    """The name of the best Auto class for a model; the name of its own class if it has none.

    Example:
        >>> import transformers
        >>> auto_class(transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)))
        'AutoModel'
    """
    return next(iter(auto_classes(model)), stock_class(type(model)).__name__)


def pipeline_task(model: PreTrainedModel) -> str | None:
    """The name of the pipeline for a model; None if there is none."""
    return _PIPELINES.get(auto_class(model))
