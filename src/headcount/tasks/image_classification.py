"""Classification of images: one label for each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from datasets import ClassLabel, Dataset
from datasets.utils import tqdm
from torch import Tensor
from transformers import AutoModelForImageClassification, EvalPrediction, PreTrainedModel

# Not from transformers itself: in older versions, that name wants torchvision.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from headcount.checkpoints.loading import said
from headcount.door.arguments import check_fields
from headcount.door.extras import missing_in, needing
from headcount.errors import BudgetError, CheckpointError, DataError
from headcount.tasks.encoding import label_names_of
from headcount.tasks.heads import first_output, load_classifier
from headcount.tasks.images import IMAGES, decoded, pixels_of
from headcount.tasks.label_names import are_numbers_of, check_known, names_of, numbers_of
from headcount.tasks.measures import label_measures
from headcount.tasks.media import read_media, with_files
from headcount.tasks.settings import FOUND, described
from headcount.tasks.task import Task

HEAD = "ForImageClassification"
"""The end of the name of a class with the head of this task."""
PIXELS = "pixel_values"
"""The model's input. In an encoded data set, the file that the collator makes it of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageClassification(Task):
    """One label for each image.

    Data are folders with a subfolder for each label, tables with a column of paths, or data sets of
    the hub. Every image is decoded once when the data are read, so that none fails later. What is
    kept is the file; the collator decodes it again for each batch, so memory does not grow with the
    size of the model's inputs.

    Example:
        >>> ImageClassification(image="photo", label="species").primary_metric
        'accuracy'
    """

    name: ClassVar[str] = "image-classification"

    image: str = ""
    """The column of images: paths, seen from the folder of the table, or images."""
    label: str = ""
    """The column of labels."""
    metric: Literal["accuracy", "f1", "matthews"] = "accuracy"
    """The measure by which models are compared; F1 is the macro average over labels."""
    new_head: bool = False
    """Replace a classifier for other labels, such as ImageNet's, by a new one."""
    names: tuple[str, ...] = field(default=(), metadata={FOUND: True})
    """The labels in the model's order; filled in when the data are read."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are given; others are found."""
        return tuple(name for name in (self.image, self.label) if name)

    @property
    def primary_metric(self) -> str:
        """The measure by which models are compared, higher = better."""
        return self.metric

    def describe(self) -> Mapping[str, Any]:
        """The settings that differ from their defaults."""
        return described(self)

    def load_processor(self, model: str) -> Any:
        """The model's image processor, the one that needs Pillow alone.

        Raises:
            CheckpointError: there is no such model, or it has none.
            MissingPackageError: Pillow is not installed.
        """
        with needing(self.name):
            import PIL  # noqa: F401
        try:
            # Named, so that results do not depend on whether torchvision is installed.
            return AutoImageProcessor.from_pretrained(model, trust_remote_code=False, backend="pil")
        except Exception as error:  # its files have many readers
            if missing_in(error):
                raise
            raise CheckpointError(
                f"model {model!r}: its image processor cannot be loaded: {said(error)}. Give a "
                "model of images whose folder has a preprocessor_config.json."
            ) from error

    def check_model(self, model: str, max_length: int) -> None:
        """Nothing is refused: images have no tokens."""

    def check_processor(self, processor: Any, max_length: int) -> None:
        """Refuse what makes no inputs out of images.

        Raises:
            DataError: it is no image processor.
        """
        if PIXELS not in getattr(processor, "model_input_names", ()):
            raise DataError(
                f"dataset(processor={type(processor).__name__}): it makes no {PIXELS}. Give the "
                "model's image processor, as load_processor returns it."
            )

    def read(self, sources: Sequence[str | Path], *, split: str) -> Dataset:
        """Read which images there are and their labels; see ``read_media``."""
        return read_media(sources, IMAGES, column=self.image, text=self.label, split=split)

    def encode(
        self,
        table: Dataset,
        processor: Any,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Decode every image once, and number the labels.

        Args:
            table: what ``read`` returns.
            processor: the model's image processor.
            max_length: not used: images have no tokens.
            split: the use of the data, named in messages.
            labels: labels in the model's order; None: those that occur, in order.

        Returns:
            ``pixel_values``, the files, of which ``collator`` makes pixels; and ``labels``.

        Raises:
            DataError: an image cannot be read, or a label is unknown.
        """
        call = f"{self.name}(split={split!r})"
        golds = list(table["text"])
        self._check_golds(table, golds)
        names = tuple(labels) if labels is not None else names_of(golds, call=call, column="label")
        check_known([[gold] for gold in golds], names, call=call, place=table["place"].__getitem__)
        _check_images(table, processor, split)
        known = numbers_of(names)
        numbers = [known[gold.casefold()] for gold in golds]
        return with_files(table, PIXELS, {"labels": (numbers, ClassLabel(names=list(names)))})

    def _check_golds(self, table: Dataset, golds: Sequence[str]) -> None:
        empty = next((row for row, gold in enumerate(golds) if gold.strip() in ("", "-")), None)
        if empty is not None:
            raise DataError(
                f"{self.name}: {table[empty]['place']} has no label. Give one, or leave the row "
                "out."
            )

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """The label names of an encoded data set, in the model's order."""
        return label_names_of(dataset)

    def in_order(self, labels: tuple[str, ...], order: Sequence[str]) -> tuple[str, ...]:
        """The labels in the order of the model; its names for labels that are its numbers."""
        return tuple(order) if are_numbers_of(labels, order) else Task.in_order(self, labels, order)

    def with_labels(self, labels: tuple[str, ...]) -> Self:
        """The task with its labels."""
        return replace(self, names=labels)

    def collator(self, processor: Any) -> Callable[[list[Any]], Any]:
        """Decodes the images of a batch and makes pixels of them."""
        return ImageCollator(processor=processor)

    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A pretrained model with a classifier over the labels.

        Args:
            name_or_path: a folder, or a model of the hub, which is downloaded.
            labels: the labels in order, as ``labels(train)`` returns them.

        Raises:
            DataError: the model has a trained classifier for another number of labels, and
                ``new_head`` is not set.
        """
        return load_classifier(
            AutoModelForImageClassification,
            name_or_path,
            labels,
            HEAD,
            new_head=self.new_head,
            problem_type="single_label_classification",
        )

    def metrics(self, eval_prediction: EvalPrediction) -> dict[str, float]:
        """Accuracy, macro F1 and Matthews' correlation.

        Example:
            >>> logits, golds = np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([1, 1])
            >>> found = EvalPrediction(predictions=logits, label_ids=golds)
            >>> ImageClassification().metrics(found)["accuracy"]
            0.5
        """
        return label_measures(
            self.predicted(eval_prediction), np.asarray(eval_prediction.label_ids)
        )

    def predicted(self, eval_prediction: EvalPrediction) -> np.ndarray:
        """The number of each image's greatest logit, [E]."""
        return np.argmax(np.asarray(first_output(eval_prediction.predictions)), axis=-1)

    def correct(self, eval_prediction: EvalPrediction) -> np.ndarray | None:
        """Whether each image is right; None if the primary metric is no share of right images."""
        if self.metric != "accuracy":
            return None
        return self.predicted(eval_prediction) == eval_prediction.label_ids

    def reduce(self, outputs: Any, labels: Any) -> Any:
        """The logits, without hidden states and maps."""
        return first_output(outputs)

    def example(
        self, model: PreTrainedModel, processor: Any, *, batch: int, length: int
    ) -> dict[str, Tensor]:
        """Images of noise, the same at every call, of the processor's size.

        Args:
            model: the model.
            processor: the model's image processor.
            batch: number of images.
            length: not used: images have no tokens.

        Raises:
            BudgetError: the batch is empty.
        """
        if batch < 1:
            raise BudgetError(
                f"latency_batch={batch}: nothing can be timed so. Give 1 or more images."
            )
        size = getattr(model.config, "image_size", None)
        height, width = size if isinstance(size, list | tuple) else (size or 224,) * 2
        generator = torch.Generator().manual_seed(0)
        shape = (batch, height, width, 3)
        noise = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        made = pixels_of(processor, [*noise.numpy()])
        floats = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in made.items()}
        return {name: value.to(model.device) for name, value in floats.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCollator:
    """Makes a batch of rows: decodes their images, and stacks everything else.

    Example:
        >>> from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
        >>> processor = ViTImageProcessorPil(size={"height": 4, "width": 4})
        >>> file = {"path": None, "bytes": b"P6 1 1 255 abc"}
        >>> batch = ImageCollator(processor=processor)([{"pixel_values": file, "labels": 1}])
        >>> list(batch["pixel_values"].shape), batch["labels"].tolist()
        ([1, 3, 4, 4], [1])
    """

    processor: Any
    """The model's image processor."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of rows, as ``encode`` returns them."""
        images = [decoded(row[PIXELS], "batch") for row in rows]
        rest = [name for name in rows[0] if name != PIXELS]
        # Labels, and a teacher's logits.
        return pixels_of(self.processor, images) | {
            name: torch.tensor([row[name] for row in rows]) for name in rest
        }


def _check_images(table: Dataset, processor: Any, split: str) -> None:
    """Decode every image, and make pixels of one of each size: all must have one shape.

    Raises:
        DataError: an image cannot be read, or its pixels have another shape than the first one's.
    """
    shapes: dict[tuple[int, int], tuple[int, ...]] = {}
    first = None
    for row in tqdm(table, desc=f"checking images of {split}"):
        image = decoded(row["file"], row["place"])
        if image.size in shapes:
            continue
        try:
            shape = tuple(pixels_of(processor, [image])[PIXELS].shape)
        except Exception as error:  # processors raise anything
            raise DataError(
                f"{row['place']}: the image of {image.size[0]} x {image.size[1]} pixels cannot be "
                f"processed: {said(error)}. Give another, or leave it out."
            ) from error
        shapes[image.size] = shape
        first = first or (row["place"], shape)
        if shape != first[1]:
            raise DataError(
                f"{row['place']}: {type(processor).__name__} makes {list(shape)} of an image of "
                f"{image.size[0]} x {image.size[1]} pixels, but {list(first[1])} of that in "
                f"{first[0]}; a batch needs one shape. Set its size to a height and a width, or "
                "have it crop (do_center_crop), in preprocessor_config.json."
            )
