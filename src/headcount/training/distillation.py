"""Learning from a teacher as well as from labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from datasets import Dataset
from datasets.fingerprint import generate_random_fingerprint
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from headcount.door.arguments import check_fields, checks_arguments
from headcount.errors import TrainingError
from headcount.evidence.gate_grads import IGNORED

TEACHER = "teacher_logits"
"""The column of a training set that holds the teacher's logits."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """Weight and temperature of a teacher's answers, which are learnt beside the labels.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> Distillation().loss(logits, logits).item()
        0.0

    Source: Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 2.
    """

    weight: float = 0.7
    """Share of the teacher in the loss; the labels have the rest."""
    temperature: float = 2.0
    """Divides the logits of teacher and model before the softmax; higher is softer."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.weight <= 1:
            raise TrainingError(f"Distillation(weight={self.weight!r}): give a share in (0, 1].")
        if not 0 < self.temperature < float("inf"):
            raise TrainingError(
                f"Distillation(temperature={self.temperature!r}): give a positive number."
            )

    def loss(
        self, logits: Float[Tensor, "batch c"], teacher: Float[Tensor, "batch c"]
    ) -> Float[Tensor, ""]:
        """``T^2 KL(teacher || own)`` at temperature T, mean over examples.

        Raises:
            TrainingError: the two differ in shape; or they are not [batch, labels] with two labels
                or more.
        """
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise TrainingError(
                f"Distillation.loss: logits {list(logits.shape)}. The loss compares one answer for "
                "each example: give logits [batch, labels], of a classifier of whole examples with "
                "two labels or more."
            )
        if logits.shape != teacher.shape:
            raise TrainingError(
                f"Distillation.loss: logits {list(logits.shape)} of the model and "
                f"{list(teacher.shape)} of the teacher. Both need the same examples and labels: "
                "[batch, labels]."
            )
        own, taught = (log_softmax(x / self.temperature, -1) for x in (logits, teacher))
        divergence = kl_div(own, taught, log_target=True, reduction="batchmean")
        # The gradient falls with 1 / T^2; without this factor, T would change the teacher's weight.
        return divergence * self.temperature**2

    def check_model(self, call: str, model: Any) -> None:
        """Refuse a model that does not choose one label for each example.

        Args:
            call: the function that was called.
            model: the model that learns, or its teacher.

        Raises:
            TrainingError: its labels are independent of each other, or numbers.
        """
        config = getattr(model, "config", None)
        problem = getattr(config, "problem_type", None)
        if problem not in (None, "single_label_classification"):
            raise TrainingError(
                f"{call}({type(model).__name__}): its problem type is {problem!r}. {ONE_LABEL}"
            )

    def loss_at(
        self, logits: Tensor, teacher: Tensor, labels: Tensor, *, ahead: bool
    ) -> Float[Tensor, ""]:
        """``loss`` over the tokens that have a label, mean over these.

        Args:
            logits: of the model, [batch, tokens, c].
            teacher: of the teacher, likewise.
            labels: [batch, tokens]; -100 for tokens without a label.
            ahead: whether the logits of a token are about the next one, as those of a causal
                language model.

        Raises:
            TrainingError: the shapes do not fit each other, or no token has a label.

        Example:
            >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
            >>> labels = torch.tensor([[-100, 1]])
            >>> Distillation().loss_at(logits, logits, labels, ahead=True).item()
            0.0
        """
        if logits.shape != teacher.shape or logits.shape[:-1] != labels.shape:
            raise TrainingError(
                f"Distillation.loss_at: logits {list(logits.shape)} of the model, "
                f"{list(teacher.shape)} of the teacher, and labels {list(labels.shape)}. Give "
                "[batch, tokens, c] twice and [batch, tokens]: a model and a teacher that answer "
                "for each token."
            )
        if ahead:
            logits, teacher, labels = logits[:, :-1], teacher[:, :-1], labels[:, 1:]
        told = labels != IGNORED
        if not told.any():
            raise TrainingError(
                "Distillation.loss_at: no token of the batch has a label. Leave such batches out."
            )
        return self.loss(logits[told], teacher[told])

    def check(self, labels: Any) -> None:
        """Refuse a batch without exactly one whole number as the label of each example.

        Raises:
            TrainingError: labels are floats, or an example has several.
        """
        if isinstance(labels, Tensor) and (labels.ndim != 1 or labels.is_floating_point()):
            raise TrainingError(
                f"train(distillation={self}): the labels of a batch are {labels.dtype} of shape "
                f"{list(labels.shape)}. {ONE_LABEL}"
            )


ONE_LABEL = (
    "Learning from a teacher compares softmaxes over the labels, of which one is right for each "
    "example. Give a classifier of this sort, with labels [batch] of whole numbers, or train "
    "without a teacher."
)


@checks_arguments
def taught(
    dataset: Dataset,
    teacher: nn.Module,
    collator: Callable[[list[Any]], dict[str, Tensor]],
    *,
    batch_size: int = 32,
) -> Dataset:
    """Add a teacher's logits for each example to a training set.

    Args:
        dataset: tokenised examples of a classification task.
        teacher: a classifier with the same labels; it is put into evaluation mode.
        collator: makes a batch out of examples.
        batch_size: examples in a forward pass of the teacher.

    Returns:
        The same rows with a column ``teacher_logits``.

    Raises:
        TrainingError: the data set is empty; or the teacher gives no logits for whole examples,
            has one label only, or does not choose one label (independent labels, numbers).

    Example:
        >>> train = taught(train, dense, collator)  # doctest: +SKIP
    """
    known = Distillation()
    known.check_model("taught", teacher)
    device = next(teacher.parameters()).device
    answers = []
    for start in range(0, len(dataset), batch_size):
        rows = [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
        inputs = {name: value.to(device) for name, value in collator(rows).items()}
        known.check(inputs.pop("labels", None))
        with torch.no_grad():
            answers.append(teacher.eval()(**inputs).logits.float().cpu())
        _check_answer(teacher, answers[0])
    if not answers:
        raise TrainingError("taught(dataset): the data set is empty. Give one with examples.")
    own = generate_random_fingerprint()  # hashing all answers would swallow Ctrl-C
    return dataset.add_column(TEACHER, torch.cat(answers).tolist(), new_fingerprint=own)


def _check_answer(teacher: nn.Module, logits: Tensor) -> None:
    if logits.ndim != 2:
        raise TrainingError(
            f"taught({type(teacher).__name__}): the teacher gives no logits [batch, labels]. Give "
            "a classifier of whole examples."
        )
    if logits.shape[1] < 2:
        raise TrainingError(
            f"taught({type(teacher).__name__}): the teacher has one label, so its softmax is "
            "always one. Give a classifier of two labels or more."
        )
