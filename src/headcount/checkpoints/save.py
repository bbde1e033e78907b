"""Save a cut model in one of four ways (rungs), which differ in what is needed to load it."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

from headcount.architectures.config import is_uneven
from headcount.checkpoints.autos import auto_class, auto_classes
from headcount.checkpoints.disk import check_place, expanded, on_disk
from headcount.checkpoints.folder import CARD_FILE, is_card, write_card
from headcount.checkpoints.padded import padded as pad
from headcount.checkpoints.standalone import CODE_FILE, write_code
from headcount.checkpoints.workspace import DECISION_FILE, SCORES_FILES
from headcount.checkpoints.written import relist
from headcount.door.arguments import checks_arguments
from headcount.errors import CheckpointError
from headcount.reports.card import Rung, load_instructions


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """The folder of a saved model, and how it loads.

    Example:
        >>> Saved(folder=Path("small"), rung="stock", how_to_load="...").rung
        'stock'
    """

    folder: Path
    """The folder."""
    rung: Rung
    """``stock``, ``import``, ``standalone`` or ``padded``."""
    how_to_load: str
    """Lines of Python that load it."""


@checks_arguments
def save(
    model: PreTrainedModel,
    folder: str | Path,
    *,
    standalone: bool = False,
    padded: bool = False,
) -> Saved:
    """Save a model so that it reloads bit for bit, and return how to load it.

    If the stock class can build the model's shape, the folder is a stock checkpoint, which any tool
    loads. Otherwise loading needs ``import headcount`` before ``from_pretrained``. For such models
    there are two more ways, ``standalone`` and ``padded``.

    Args:
        model: a cut model, or any other.
        folder: the folder to write; created if needed. An older model there is replaced.
        standalone: write code beside the weights, so that users without headcount can load the
            model with ``trust_remote_code=True``.
        padded: save the dense, stock shape with zeros for removed units. The outputs are the same,
            nothing is gained in size; for engines that accept only the stock shape.

    Returns:
        The folder, the rung, and lines of Python that load it.

    Raises:
        CheckpointError: both ways were asked for, the model cannot be saved in this way, or the
            folder holds something else than a model.

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
        # All files are written beside the target first. So an error or a full disk leaves an older
        # model there as it was.
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
    """Write the model and what goes with it into a new folder."""
    uneven = is_uneven(model)
    written = pad(model) if padded and uneven else model
    # Some stock classes save weights under other names and translate them as they load. The class
    # in a standalone folder is not in transformers' table of these names.
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
    # save_pretrained has written a card already, but does not know the rung.
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
"""The files that saving a model may write. Others, such as a tokenizer's, are left alone."""


def _move(draft: Path, target: Path) -> None:
    """Move the finished files into the target, in place of an older model's files.

    A README that is not our card stays, and then no card is written.
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
