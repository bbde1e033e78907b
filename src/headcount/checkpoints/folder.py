"""Write the files beside the weights of a saved folder: the decision and the model card."""

from pathlib import Path

from transformers import PreTrainedModel

from headcount.architectures.config import is_uneven
from headcount.checkpoints.autos import auto_class, pipeline_task
from headcount.checkpoints.workspace import DECISION_FILE
from headcount.door.atomic import write_text
from headcount.reports.card import (
    BEGIN,
    FIGURE,
    OTHER_FIGURE,
    TAGS,
    Rung,
    load_instructions,
    model_card,
)
from headcount.reports.report import Report
from headcount.units.decision import Decision

CARD_FILE = "README.md"
SENTENCES_FILE = "modules.json"
"""The file by which sentence-transformers knows its folders."""


def after_save(model: PreTrainedModel, folder: str) -> None:
    """Write the decision and a card beside the weights of a model that was cut.

    ``save_pretrained`` calls this. It does nothing for a model that was not cut, and keeps a README
    that is there.
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
    rung: Rung | None = None,
) -> None:
    """Write the folder's model card, titled ``name``."""
    encodes = (folder / SENTENCES_FILE).is_file()
    card = model_card(
        name=name,
        decision=decision,
        rung=rung or rung_of(model),
        auto_class=auto_class(model),
        pipeline_task="sentence-similarity" if encodes else pipeline_task(model),
        report=report,
        figure=next((f for f in (FIGURE, OTHER_FIGURE) if (folder / f).is_file()), None),
        encodes_sentences=encodes,
    )
    write_text(folder / CARD_FILE, card)


def is_card(file: Path) -> bool:
    """Whether a README is a card that headcount wrote, judged by its front matter.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / CARD_FILE
        >>> _ = file.write_text("# My model")
        >>> is_card(file)
        False
    """
    if not file.is_file():
        return False
    with file.open("rb") as card:
        text = card.read(400).decode(errors="replace")
    return text.startswith(BEGIN) and TAGS in text


def rung_of(model: PreTrainedModel) -> Rung:
    """How a folder loads that ``save_pretrained`` writes for this model."""
    return "import" if is_uneven(model) else "stock"


def how_to_load(model: PreTrainedModel, folder: Path) -> str:
    """The lines of Python that load a saved model."""
    return load_instructions(rung_of(model), auto_class(model), str(folder))
