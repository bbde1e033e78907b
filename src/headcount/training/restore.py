"""Check the Trainer's files in a checkpoint before loading any; report what fails to load."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import nn
from transformers import TrainerState

from headcount.door.files import check_regular, checked, parse_json, read_text
from headcount.door.shape import Count, Finite, Misfit, Positive, Said
from headcount.door.tensors import Header, check_header, header, header_of
from headcount.errors import CheckpointError, PruningError

GIVE = "Delete that folder to resume from the checkpoint before it, or start anew."

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_STATE = "trainer_state.json"
_PICKLED = ("optimizer.pt", "scheduler.pt")
_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class _State(TypedDict):
    """The keys of the Trainer's own state that are used."""

    global_step: Count
    epoch: NotRequired[Positive | None]
    max_steps: NotRequired[int]
    num_train_epochs: NotRequired[Positive]
    train_batch_size: NotRequired[Count | None]
    save_steps: NotRequired[Positive]
    eval_steps: NotRequired[Positive]
    logging_steps: NotRequired[Positive]
    num_input_tokens_seen: NotRequired[Count]
    total_flos: NotRequired[Positive]
    best_metric: NotRequired[Finite | None]
    best_global_step: NotRequired[Count | None]
    best_model_checkpoint: NotRequired[str | None]
    log_history: NotRequired[list[dict[str, Any]] | None]
    stateful_callbacks: NotRequired[dict[str, Any] | None]


class _Index(TypedDict):
    """The index of sharded weights: the file of each."""

    weight_map: dict[str, str]


@contextmanager
def restoring(folder: str | Path, file: str = "") -> Iterator[None]:
    """Turn every failure to load a part of a checkpoint into one kind of error.

    Raises:
        CheckpointError: names the folder, the file and what to do.
    """
    call = f"train(resume_from_checkpoint={str(folder)!r})" + (f": {file}" if file else "")
    try:
        with checked(call, give=GIVE):
            yield
    except PruningError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        raise CheckpointError(f"{call}: cannot be loaded ({said[:200]}). {GIVE}") from error


def check_files(folder: Path, model: nn.Module, *, with_optimizer: bool = True) -> None:
    """Refuse a checkpoint that lacks files, or whose weights do not fit the model.

    Args:
        folder: the checkpoint.
        model: the model that will be trained further.
        with_optimizer: whether the checkpoint must hold an optimizer.

    Raises:
        CheckpointError: names the file and what is wrong with it.
    """
    # Links and devices are refused before any file is opened. Of the weights only the headers are
    # read. Pickled files are left to the Trainer, which loads them after these checks.
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            with restoring(folder, str(path.relative_to(folder))):
                _check_kind(path)
    with restoring(folder, _STATE):
        state: _State = parse_json(read_text(folder / _STATE), _State)
        unknown = sorted(state.keys() - {field.name for field in fields(TrainerState)})
        if unknown:
            raise Misfit(unknown[0], "a key of the Trainer's state")
        number = folder.name.rpartition("-")[2]
        if folder.name.startswith("checkpoint-") and number != str(state["global_step"]):
            raise Misfit(state["global_step"], f"the {number} of the folder", place="global_step")
    _check_weights(folder, model)
    if with_optimizer:
        for name in _PICKLED:
            with restoring(folder, name):
                check_regular(folder / name, links=False)
        with restoring(folder, "rng_state.pth"):
            if not any(folder.glob("rng_state*.pth")):
                raise Misfit(Said("not there"), "the states of the random generators")


def _check_kind(path: Path) -> None:
    """Refuse links and devices; a file may be empty."""
    try:
        check_regular(path, links=False)
    except Misfit as problem:
        if str(problem.value) != "empty":
            raise


def _check_weights(folder: Path, model: nn.Module) -> None:
    """Check the weights of a stock checkpoint; those of adapters are left to their library."""
    found: Header = {}
    files = [_WEIGHTS]
    if not (folder / _WEIGHTS).exists():
        if not (folder / _INDEX).exists():
            return
        with restoring(folder, _INDEX):
            index: _Index = parse_json(read_text(folder / _INDEX), _Index)
            files = sorted(set(index["weight_map"].values()))
            out = next((name for name in files if Path(name).name != name), None)
            if out is not None:
                raise Misfit(out, "a file of the folder")
    for name in files:
        with restoring(folder, name):
            found |= header(folder / name)
    with restoring(folder, files[0]):
        tensors = model.state_dict()
        check_header(found, header_of(tensors), may_lack=_tied(model, tensors, found))


def _tied(model: nn.Module, tensors: dict[str, Any], found: Header) -> set[str]:
    """Names a checkpoint may lack: tied to a saved tensor, or never saved by the model's class."""
    saved = {(v.data_ptr(), v.shape) for name, v in tensors.items() if name in found}
    twice = {name for name, v in tensors.items() if v.numel() and (v.data_ptr(), v.shape) in saved}
    return twice | {*(getattr(model, "_keys_to_ignore_on_save", None) or ())}


def check_moments(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Refuse moments that do not fit the weights: the optimizer would load them silently.

    Raises:
        CheckpointError: a moment has another shape than its weight.
    """
    with restoring(folder, "optimizer.pt"):
        inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
        for weight, state in inner.state.items():
            for name in _MOMENTS:
                value = state.get(name)
                if isinstance(value, torch.Tensor) and value.shape != weight.shape:
                    wanted = f"the {tuple(weight.shape)} of its weight"
                    raise Misfit(Said(f"of shape {tuple(value.shape)}"), wanted, place=name)


class Restoring:
    """For a Trainer: whatever it fails to load from a checkpoint is a ``CheckpointError``."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> Any:
        with restoring(resume_from_checkpoint):
            return super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> Any:
        if checkpoint is None:
            return super()._load_optimizer_and_scheduler(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]
        with restoring(checkpoint, "optimizer.pt or scheduler.pt"):
            result = super()._load_optimizer_and_scheduler(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]
        check_moments(Path(checkpoint), self.optimizer)  # pyright: ignore[reportAttributeAccessIssue]
        return result

    def _load_rng_state(self, checkpoint: str | None) -> Any:
        if checkpoint is None:
            return None
        with restoring(checkpoint, "rng_state.pth"):
            return super()._load_rng_state(checkpoint)  # pyright: ignore[reportAttributeAccessIssue]

    def _load_callback_state(self) -> Any:
        with restoring(getattr(self, "resume_from", None) or "", _STATE):
            return super()._load_callback_state()  # pyright: ignore[reportAttributeAccessIssue]
