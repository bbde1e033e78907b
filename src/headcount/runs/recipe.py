"""Training settings, the same for every run of a comparison."""

import math
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments

from headcount.door.arguments import check_fields
from headcount.errors import TrainingError

LARGEST_SEED = 2**32
"""NumPy takes only seeds below this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How long and how fast to train.

    Example:
        >>> Recipe(epochs=1, batch_size=16).learning_rate
        0.0001

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
    """Share of the steps at the start in which the learning rate rises."""
    max_length: int = 128
    """Longest example in tokens; longer ones are truncated."""
    save_steps: int = 100
    """Steps between checkpoints; a killed run resumes from the last one."""
    seed: int = 0
    """Seed of new weights, the order of the data, dropout and the method."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("epochs", "batch_size", "learning_rate", "max_length", "save_steps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise TrainingError(f"Recipe({name}={value!r}): give a positive number.")
        if not 0 <= self.warmup < 1:
            raise TrainingError(f"Recipe(warmup={self.warmup!r}): give a share in [0, 1).")
        if not 0 <= self.weight_decay < math.inf or not 0 <= self.seed < LARGEST_SEED:
            raise TrainingError(
                f"Recipe(weight_decay={self.weight_decay!r}, seed={self.seed!r}): give 0 or more, "
                f"and a seed below {LARGEST_SEED}."
            )

    def arguments(self, folder: Path) -> TrainingArguments:
        """The same as ``transformers.TrainingArguments``; checkpoints go to ``folder``."""
        return TrainingArguments(
            str(folder),
            num_train_epochs=self.epochs,
            per_device_train_batch_size=self.batch_size,
            per_device_eval_batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup,
            seed=self.seed,
            save_steps=self.save_steps,
            save_total_limit=2,
            train_sampling_strategy="group_by_length",
            logging_steps=20,
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
