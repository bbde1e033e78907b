"""Which fields of transformers' ``TrainingArguments`` a recipe may hold, and with what values."""

import json
import types
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin

import transformers
from transformers import TrainingArguments

from headcount.door.shape import Between, Misfit, fit, hints, in_words, short
from headcount.errors import ArgumentError, TrainingError

_BATCH = "batch_size (--batch-size)"
GIVE = {
    "output_dir": "output (--output)",
    "num_train_epochs": "epochs (--epochs)",
    "per_device_train_batch_size": _BATCH,
    "per_device_eval_batch_size": _BATCH,
    "learning_rate": "learning_rate (--learning-rate)",
    "save_steps": "save_steps (--save-steps)",
    "seed": "seed (--seed; in a comparison --seeds)",
    "resume_from_checkpoint": "resume (--resume; a comparison resumes by itself)",
    "weight_decay": "weight_decay (on the command line --set weight_decay=...)",
    "warmup_steps": "warmup (on the command line --set warmup_steps=...)",
    "epochs": "epochs (--epochs)",
    "batch_size": _BATCH,
    "max_length": "max_length (--max-length)",
    "warmup": "warmup (on the command line --set warmup_steps=...)",
}
"""Setting -> where its value is given instead: a field of ``Recipe`` or argument, and a flag."""

_UPLOAD = (
    "the Trainer would upload the whole model, with all of its units. Upload the folder of the "
    "result when it is there: hf upload NAME FOLDER"
)
_TASK = "the task says which columns of the data a model gets. Leave it out"
_SHARDS = "shards of weights cannot be cut. Leave it out"
_ALONE = "a run trains in one process. Leave it out"
_RESUMED = "a run that is resumed would not end as one that was never stopped. Leave it out"
_WHOLE = "a task measures all predictions at once. Leave it out"
_PRECISION = "quality is measured in the precision of the saved weights. Leave it out"
_CODE = "it replaces the code of layers, by which headcount knows what to cut. Leave it out"
_SCRIPTS = "only scripts read it, not the Trainer. Leave it out"
REFUSED = {
    **dict.fromkeys(("remove_unused_columns", "label_names", "length_column_name"), _TASK),
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "parallelism_config"), _SHARDS),
    **dict.fromkeys(("save_only_model", "ignore_data_skip"), _RESUMED),
    **dict.fromkeys(("batch_eval_metrics", "eval_do_concat_batches"), _WHOLE),
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval"), _PRECISION),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), _CODE),
    **dict.fromkeys(("do_train", "do_predict"), _SCRIPTS),
    "do_eval": "it does nothing by itself. To evaluate in training, give eval_strategy",
    "local_rank": _ALONE,
    "push_to_hub": _UPLOAD,
    "train_sampling_strategy": "examples are grouped by length, in an order that depends only on "
    "seed and epoch. Leave it out",
    "save_total_limit": "the last two checkpoints are kept. Leave it out",
    "enable_jit_checkpoint": "a run that is stopped ends at once. Give a smaller save_steps "
    "(--save-steps) to lose less of it",
    "disable_tqdm": "headcount shows the progress itself. Leave it out",
    "auto_find_batch_size": "a smaller batch would change the result, and the settings would not "
    "say so. Give a smaller batch_size (--batch-size) and gradient_accumulation_steps",
}
"""Setting -> why it is refused, and what to do."""
_REFUSED_FAMILIES = {"hub_": _UPLOAD, "ddp_": _ALONE}
"""Beginning of a setting's name -> why all of these are refused."""

LEAVES_NO_TRACE = frozenset(
    (
        *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"),
        *("log_level", "log_level_replica", "log_on_each_node", "include_num_input_tokens_seen"),
        *("report_to", "run_name", "project", "skip_memory_metrics"),
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        *("save_strategy", "save_on_each_node"),
    )
)
"""Settings that do not change the trained model. A run may be resumed with others."""

_BOUNDS = {
    **dict.fromkeys(("max_steps", "gradient_accumulation_steps", "eval_accumulation_steps"), (1,)),
    **dict.fromkeys(("dataloader_num_workers", "max_grad_norm", "neftune_noise_alpha"), (0,)),
    **dict.fromkeys(("logging_steps", "eval_steps", "eval_delay"), (0,)),
    "label_smoothing_factor": (0, 1),
}
"""Settings for which transformers lets through a number that cannot be -> its bounds."""
_NOT_STEPPED = ("layerwise", "lomo")
"""Parts of the names of optimizers that move the weights in the backward pass."""


def checked(training: Mapping[str, Any]) -> dict[str, Any]:
    """The training settings of a recipe as plain values; a wrong one is refused.

    Args:
        training: name of a field of ``TrainingArguments`` -> value.

    Raises:
        TrainingError: transformers has no such field, headcount sets it itself, or the value is
            not allowed.
        ArgumentError: a value has the wrong type.

    Example:
        >>> checked({"max_grad_norm": 2, "lr_scheduler_type": "cosine"})
        {'max_grad_norm': 2.0, 'lr_scheduler_type': 'cosine'}
    """
    return {name: _checked(name, value) for name, value in training.items()}


def with_trace(training: Mapping[str, Any]) -> dict[str, Any]:
    """The training settings on which the trained model depends.

    Example:
        >>> with_trace({"bf16": True, "report_to": "tensorboard"})
        {'bf16': True}
    """
    free = set(LEAVES_NO_TRACE)
    if training.get("load_best_model_at_end"):  # the best of the checkpoints that were written
        free.discard("save_strategy")
    if training.get("eval_strategy") == "steps" and not training.get("eval_steps"):
        free.discard("logging_steps")  # the Trainer then evaluates at these steps
    return {name: value for name, value in training.items() if name not in free}


def only_text(name: str) -> bool:
    """Whether a setting is a text and nothing else, such as ``run_name``.

    Example:
        >>> only_text("run_name"), only_text("bf16"), only_text("eval_strategy")
        (True, False, False)
    """
    return bool(kinds := _kinds(name)) and {*kinds} <= {str, type(None)}


@cache
def _known() -> list[str]:
    return [field.name for field in fields(TrainingArguments) if field.init]


def _kinds(name: str) -> tuple[Any, ...]:
    """The types that a setting may have."""
    wanted = hints(TrainingArguments).get(name)
    if get_origin(wanted) in (Union, types.UnionType):
        return get_args(wanted)
    return () if wanted is None else (wanted,)


def _checked(name: str, value: Any) -> Any:
    shown = "..." if name.endswith("_token") else short(value)
    call = f"Recipe(training={{{name!r}: {shown}}})"
    if name in GIVE:
        raise TrainingError(f"{call}: headcount sets this itself. Give {GIVE[name]} instead.")
    families = [why for front, why in _REFUSED_FAMILIES.items() if name.startswith(front)]
    if name in REFUSED or families:
        raise TrainingError(f"{call}: {REFUSED.get(name) or families[0]}.")
    if name not in _known():
        raise TrainingError(
            f"{call}: transformers {transformers.__version__} has no such field in "
            f"TrainingArguments. {_nearest(name, _known(), 'Look up its name there.')}"
        )
    value = _plain(call, name, value)
    if name == "optim" and any(word in value for word in _NOT_STEPPED):
        raise TrainingError(
            f"{call}: it moves weights in the backward pass, before a method's gates are done with "
            "them. Give another, such as adamw_torch."
        )
    return value


def _plain(call: str, name: str, value: Any) -> Any:
    """The value in the type of its field, as JSON can hold it."""
    kinds = _kinds(name)
    if dict in map(_base, kinds):  # a text would be the name of a file, which may change
        kinds = tuple(kind for kind in kinds if kind is not str)
    value = value.value if isinstance(value, Enum) else value
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)  # so that 1 and 1.0 are the same setting
    choices = [one.value for kind in kinds if _is_enum(kind) for one in kind]
    if choices:
        return _chosen(call, value, choices)
    wanted = Union[kinds]  # noqa: UP007 - of a tuple
    try:
        fit(value, wanted)
        if name in _BOUNDS and value is not None:
            Between(*_BOUNDS[name]).check(value)
        # A copy, which shares nothing with the caller's value.
        return json.loads(json.dumps(value, allow_nan=False))
    except Misfit as problem:
        if not problem.of_type:
            raise TrainingError(f"{call}: give {problem.wanted}.") from None
        raise ArgumentError(f"{call}: give {in_words(wanted)}.") from None
    except (TypeError, ValueError):
        raise ArgumentError(f"{call}: give values that JSON can hold.") from None


def _chosen(call: str, value: Any, choices: list[str]) -> str:
    """One of the names that a field knows."""
    if value is False and "no" in choices:  # ``no`` in YAML means false
        return "no"
    every = f"Give one of {', '.join(choices)}."
    if not isinstance(value, str):
        raise ArgumentError(f"{call}: no text. {every}")
    if value not in choices:
        raise TrainingError(f"{call}: no such value. {_nearest(value, choices, every)}")
    return value


def _base(kind: Any) -> Any:
    return getattr(kind, "__origin__", kind)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _nearest(name: str, known: list[str], otherwise: str) -> str:
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Did you mean {', '.join(near)}?" if near else otherwise
