"""What stands in a saved folder beside the weights: the decision and the model card."""

from pathlib import Path

from transformers import PreTrainedModel

from headcount.architectures.config import is_uneven
from headcount.checkpoints.workspace import DECISION_FILE
from headcount.reports.card import FIGURE, load_instructions, model_card
from headcount.reports.report import Report
from headcount.units.decision import Decision

CARD_FILE = "README.md"


def after_save(model: PreTrainedModel, folder: str) -> None:
    """Write the decision and a card beside the weights of a model that was cut.

    ``save_pretrained`` calls this; models that were not cut are left alone, and so is a card that
    is there already.
    """
    decision = vars(model).get("headcount_decision")
    if decision is not None:
        decision.save(Path(folder) / DECISION_FILE)
    if (decision is not None or is_uneven(model)) and not (Path(folder) / CARD_FILE).exists():
        write_card(model, Path(folder), name=Path(folder).name, decision=decision, report=None)


def write_card(
    model: PreTrainedModel,
    folder: Path,
    *,
    name: str,
    decision: Decision | None,
    report: Report | None,
) -> None:
    """Write the folder's model card, titled ``name``."""
    card = model_card(
        name=name,
        decision=decision,
        uneven=is_uneven(model),
        auto_class=auto_class(model),
        pipeline_task=PIPELINES.get(auto_class(model)),
        report=report,
        has_figure=(folder / FIGURE).is_file(),
    )
    (folder / CARD_FILE).write_text(card, encoding="utf-8")


def how_to_load(model: PreTrainedModel, folder: Path) -> str:
    """The lines a user needs to load a saved model."""
    return load_instructions(is_uneven(model), auto_class(model), str(folder))


AUTO_CLASSES = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForMultipleChoice": "AutoModelForMultipleChoice",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForCausalLM": "AutoModelForCausalLM",
}
"""End of a model class's name -> the Auto class that loads it."""

PIPELINES = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForCausalLM": "text-generation",
}
"""Auto class -> the pipeline that uses such a model."""


def auto_class(model: PreTrainedModel) -> str:
    """The name of the Auto class that loads a model.

    Example:
        >>> import transformers
        >>> auto_class(transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)))
        'AutoModel'
    """
    name = type(model).__name__
    return next((auto for end, auto in AUTO_CLASSES.items() if name.endswith(end)), "AutoModel")
