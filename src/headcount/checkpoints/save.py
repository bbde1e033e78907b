"""Save a cut model, at the rung of the reload ladder that its users need."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

from headcount.architectures.config import is_uneven
from headcount.checkpoints.autos import auto_class, auto_classes
from headcount.checkpoints.folder import CARD_FILE, is_card, write_card
from headcount.checkpoints.padded import padded as pad
from headcount.checkpoints.place import check_place, expanded, on_disk
from headcount.checkpoints.standalone import CODE_FILE, write_code
from headcount.checkpoints.workspace import DECISION_FILE, SCORES_FILES
from headcount.checkpoints.written import relist
from headcount.door.arguments import checks_arguments
from headcount.errors import CheckpointError
from headcount.reports.card import Rung, load_instructions


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """Where a model was saved, and how it loads.

    Example:
        >>> Saved(folder=Path("small"), rung="stock", how_to_load="...").rung
        'stock'
    """

    folder: Path
    """The folder."""
    rung: Rung
    """``stock``, ``import``, ``standalone`` or ``padded``."""
    how_to_load: str
    """Lines of Python."""


@checks_arguments
def save(
    model: PreTrainedModel,
    folder: str | Path,
    *,
    standalone: bool = False,
    padded: bool = False,
) -> Saved:
    """Save a model so that it reloads with the same bits; says how.

    By default, a model with the same shape in every layer that its stock class can build is a stock
    checkpoint, which any tool loads. Any other needs ``import headcount`` before
    ``from_pretrained``. Two more ways are there to be asked for.

    Args:
        model: a cut model, or any other.
        folder: where to; made if needed. An older model there is replaced.
        standalone: write code beside the weights, so that users without headcount load it with
            ``trust_remote_code=True``.
        padded: save in the dense, stock shape with zeros for what is gone: the same outputs, no
            gain in size, for engines that demand the stock shape.

    Returns:
        The folder, the rung of the ladder, and lines of Python that load it.

    Raises:
        CheckpointError: both ways were asked for, the way cannot be gone with this model, or the
            folder holds something else.

    Example:
        >>> import headcount as hc, tempfile, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> small = hc.cut(model, hc.decide(model, hc.Random(seed=0), hc.Budget(heads=5)))
        >>> with tempfile.TemporaryDirectory() as place:
        ...     hc.save(small, place + "/small").rung
        'import'
    """
    given = expanded(folder)
    target = given if given.name not in ("", "..") else given.resolve()
    if standalone and padded:
        raise CheckpointError(
            "save(standalone=True, padded=True): give one of them. Padded models are stock "
            "checkpoints and need no code."
        )
    if target.is_file():
        raise CheckpointError(f"save(folder={str(target)!r}): a file is there. Give a folder.")
    if target.is_dir() and any(target.iterdir()) and not (target / "config.json").is_file():
        raise CheckpointError(
            f"save(folder={str(target)!r}): the folder holds something else than a model. Give "
            "another folder, or empty this one."
        )
    call = f"save(folder={str(folder)!r})"
    check_place(call, target, replaced=False)
    with on_disk(call, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".saving-", dir=target.parent) as place:
            draft = Path(place) / target.name
            rung = _write(model, draft, target.name, standalone=standalone, padded=padded)
            _move(draft, target)
    auto = "AutoModel" if rung == "standalone" and not auto_classes(model) else auto_class(model)
    how = load_instructions(rung, auto, str(target))
    return Saved(folder=target, rung=rung, how_to_load=how)


def _write(
    model: PreTrainedModel, draft: Path, name: str, *, standalone: bool, padded: bool
) -> Rung:
    uneven = is_uneven(model)
    written = pad(model) if padded and uneven else model
    # Code beside the weights is not told of other names that stock classes give to weights.
    written.save_pretrained(draft, save_original_format=not (uneven and standalone))
    rung: Rung = "import" if uneven else "stock"
    if uneven and standalone:
        write_code(model, draft)
        rung = "standalone"
    if uneven and padded:
        rung = "padded"
    decision = vars(model).get("headcount_decision")
    if decision is not None:
        decision.save(draft / DECISION_FILE)
    if decision is not None or uneven:
        (draft / CARD_FILE).unlink(missing_ok=True)
        write_card(model, draft, name=name, decision=decision, report=None, rung=rung)
    return rung


_WRITTEN = (
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"),
    *("config.json", "generation_config.json", CODE_FILE, DECISION_FILE, CARD_FILE),
    SCORES_FILES,
)
"""What saving a model may write; tokenizers and the like stay where they are."""


def _move(draft: Path, target: Path) -> None:
    """Put the finished files in place; of an older model there, nothing stays behind.

    A README that is no card of ours stays, and no card is written then.
    """
    target.mkdir(parents=True, exist_ok=True)
    if (target / CARD_FILE).exists() and not is_card(target / CARD_FILE):
        (draft / CARD_FILE).unlink(missing_ok=True)
    for pattern in _WRITTEN:
        for old in target.glob(pattern):
            if pattern != CARD_FILE or is_card(old):
                old.unlink()
    names = [file.name for file in draft.iterdir()]
    for name in names:
        (draft / name).replace(target / name)
    relist(target, names)
