"""Which of transformers' Auto classes and pipelines load a model."""

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
"""Classes that say best what a model is for, where several load it."""

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
}
"""Auto class -> the pipeline that uses such a model."""


def auto_classes(model: PreTrainedModel) -> tuple[str, ...]:
    """The names of all Auto classes that load a model, the best first; none for some parts.

    Example:
        >>> import transformers
        >>> auto_classes(transformers.BertForMaskedLM(transformers.BertConfig(num_hidden_layers=1)))
        ('AutoModelForMaskedLM',)
    """
    kind, name = model.config.model_type, stock_class(type(model)).__name__
    found = [auto for auto, table in _tables() if name in _classes(table.get(kind, ()))]
    return tuple(sorted(found, key=_place))


def _place(auto: str) -> tuple[int, str]:
    """Where an Auto class comes: those of ``_FIRST``, any other by its name, pretraining last."""
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
    """The name of the Auto class that loads a model, or of its own class if there is none.

    Example:
        >>> import transformers
        >>> auto_class(transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)))
        'AutoModel'
    """
    return next(iter(auto_classes(model)), stock_class(type(model)).__name__)


def pipeline_task(model: PreTrainedModel) -> str | None:
    """The name of the pipeline that uses such a model; None if there is none."""
    return _PIPELINES.get(auto_class(model))
