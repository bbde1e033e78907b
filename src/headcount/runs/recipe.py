"""Training settings, the same for every run of a comparison."""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from transformers import TrainingArguments

from headcount.door.arguments import check_fields
from headcount.errors import TrainingError
from headcount.runs.training_settings import checked, with_trace

LARGEST_SEED = 2**32
"""NumPy takes only seeds below this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How long and how fast to train.

    Example:
        >>> Recipe(epochs=1, batch_size=16).learning_rate
        0.0001
        >>> Recipe(training={"gradient_accumulation_steps": 4, "bf16": True}).batch_size
        32

    Raises:
        TrainingError: a number is out of range, or a training setting is unknown, not allowed, or
            set by headcount itself.
        ArgumentError: a value has the wrong type.

    Source: Li, Cotterell, Sachan 2021, arXiv 2108.04657 fine-tune BERT-base with AdamW at 2e-5 for
        3 epochs in batches of 32, linear decay.
    Differs: a learning rate of 1e-4, and a tenth of the steps for warm-up.
    """

    epochs: float = 3.0
    """Passes over the training data."""
    batch_size: int = 32
    """Examples in each step."""
    learning_rate: float = 1e-4
    """Peak learning rate of the weights (AdamW, linear decay)."""
    weight_decay: float = 0.01
    """Weight decay of the weights."""
    warmup: float = 0.1
    """Steps at the start in which the learning rate rises: their share, below 1, or number."""
    max_length: int = 128
    """Longest example in tokens; longer ones are truncated."""
    save_steps: int = 100
    """Steps between checkpoints; a killed run resumes from the last one."""
    seed: int = 0
    """Seed of new weights, the order of the data, dropout and the method."""
    training: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further fields of ``transformers.TrainingArguments`` by name, such as ``bf16``. ``max_steps``
    replaces ``epochs``. Those that the fields above or headcount itself set are refused."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("epochs", "batch_size", "learning_rate", "max_length", "save_steps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise TrainingError(f"Recipe({name}={value!r}): give a positive number.")
        if not 0 <= self.warmup < math.inf or (self.warmup > 1 and self.warmup % 1):
            raise TrainingError(
                f"Recipe(warmup={self.warmup!r}): give a share of the steps in [0, 1), or a whole "
                "number of steps."
            )
        if not 0 <= self.weight_decay < math.inf or not 0 <= self.seed < LARGEST_SEED:
            raise TrainingError(
                f"Recipe(weight_decay={self.weight_decay!r}, seed={self.seed!r}): give 0 or more, "
                f"and a seed below {LARGEST_SEED}."
            )
        object.__setattr__(self, "training", checked(self.training))

    def arguments(self, folder: str | Path) -> TrainingArguments:
        """The same as ``transformers.TrainingArguments``; checkpoints go to ``folder``."""
        values: dict[str, Any] = {
            "num_train_epochs": self.epochs,
            "per_device_train_batch_size": self.batch_size,
            "per_device_eval_batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "warmup_steps": self.warmup,
            "seed": self.seed,
            "save_steps": self.save_steps,
            "save_total_limit": 2,
            "train_sampling_strategy": "group_by_length",
            "logging_steps": 20,
            "report_to": [],
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }
        return TrainingArguments(str(folder), **{**values, **self.training})

    def for_measuring(self) -> Self:
        """The recipe with no training settings but the device, for evaluation.

        Quality is that of the saved weights, in their precision, as whoever loads them finds it.
        """
        kept = {name: self.training[name] for name in ("use_cpu",) if name in self.training}
        # Once switched on, tf32 stays on in the whole process.
        kept |= {"tf32": False} if self.training.get("tf32") else {}
        return replace(self, training=kept)

    def lasting(self, epochs: float) -> Self:
        """The recipe for a run of another length: ``max_steps`` does not hold there.

        Example:
            >>> Recipe(training={"max_steps": 5}).lasting(2.0).training
            {}
        """
        training = {k: v for k, v in self.training.items() if k != "max_steps"}
        return replace(self, epochs=epochs, training=training)

    def num_steps(self, num_examples: int, batch_size: int) -> int:
        """The optimizer steps of a run, as the Trainer counts them.

        Args:
            num_examples: examples in the training data.
            batch_size: examples in each batch, over all devices.

        Example:
            >>> Recipe(epochs=2, training={"gradient_accumulation_steps": 4}).num_steps(100, 8)
            8
        """
        if "max_steps" in self.training:
            return self.training["max_steps"]
        drops = self.training.get("dataloader_drop_last", False)
        batches = (math.floor if drops else math.ceil)(num_examples / batch_size)
        parts = self.training.get("gradient_accumulation_steps", 1)
        return math.ceil(self.epochs * max(1, math.ceil(batches / parts)))

    def plain(self) -> dict[str, Any]:
        """The recipe as values that JSON can hold, without ``training`` where that is empty."""
        values = asdict(self)
        return values if self.training else {k: v for k, v in values.items() if k != "training"}

    def described(self, *, but: Collection[str] = ()) -> dict[str, Any]:
        """What a run must have in common with one that it resumes: plain values.

        Args:
            but: fields that may differ. ``save_steps`` may not where the best checkpoint counts.

        Example:
            >>> recipe = Recipe(training={"report_to": "tensorboard"})
            >>> recipe.described() == Recipe().described()
            True
        """
        values = replace(self, training=with_trace(self.training)).plain()
        strict = {"save_steps"} if self.training.get("load_best_model_at_end") else set()
        return {name: value for name, value in values.items() if name in strict or name not in but}
