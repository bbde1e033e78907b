"""Read images: folders of classes, and single files in many formats."""

import io
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headcount.checkpoints.loading import said
from headcount.door.extras import needing
from headcount.errors import DataError
from headcount.tasks.bounds import opened, shown
from headcount.tasks.columns import LABELS
from headcount.tasks.media import Medium, Row, called, media_files, subfolders

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Formats of images, as Pillow calls them. Others, some of which start programs, are not read."""
MOST_PIXELS = 100_000_000
"""Most pixels of an image: 10,000 by 10,000."""
DEEP = ("I", "F")
"""Modes of more than eight bits a channel. Pillow would cut them off at 255."""

_READER = re.compile(r" <[^>]*>$")  # at the end of some messages of Pillow
_logger = logging.getLogger("headcount")


def classes(medium: Medium, folder: Path, call: str) -> list[Row]:
    """The images of a folder with a subfolder for each label.

    Args:
        medium: says what an image is by its suffix.
        folder: the folder.
        call: beginning of every message.

    Raises:
        DataError: there are no subfolders, or one without images, or an image without a label.
    """
    loose, _ = media_files(medium, folder)
    if loose:
        raise DataError(
            f"{call}: {shown(loose[0].name)} stands in no folder of a label. Give a folder with a "
            "subfolder for each label (cat/1.png), or metadata.csv with the columns file_name and "
            "label."
        )
    found = subfolders(folder)
    if not found:
        raise DataError(
            f"{call}: the folder has no subfolders. Give one with a subfolder of images for each "
            "label (cat/1.png), or metadata.csv with the columns file_name and label."
        )
    rows, strange = [], []
    for own in found:
        images, others = media_files(medium, own)
        strange += others
        if subfolders(own):
            inner = f"{own.name}/{subfolders(own)[0].name}"
            raise DataError(
                f"{call}: {shown(inner)} is a folder in the folder of a label. Give images there."
            )
        if not images:
            raise DataError(
                f"{call}: the folder {shown(own.name)} has no image. Give images "
                f"({', '.join(medium.suffixes)}), or remove it."
            )
        rows += [(path, own.name, repr(f"{own.name}/{path.name}")) for path in images]
    if strange:
        name = f"{strange[0].parent.name}/{strange[0].name}"
        _logger.warning(
            "%s: %s files are left out that are no images: %s", call, len(strange), name
        )
    return rows


IMAGES = Medium(
    noun="image",
    suffixes=(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
    setting="image",
    columns=("image", "file_name", "image_path", "path", "file", "filename", "img", "picture"),
    text_setting="label",
    text_columns=(*LABELS, "fine_label", "coarse_label"),
    folder=classes,
)
"""Images, and where tables have them and their labels."""


def decoded(file: Mapping[str, Any], place: str) -> Any:
    """An image as Pillow's, in RGB with eight bits a channel, upright.

    Cameras note how an image is turned; it is turned as transformers' pipelines do it.

    Args:
        file: ``bytes``, or else ``path``.
        place: where the image stands, for messages.

    Raises:
        DataError: it is no image, is damaged, or is far too large.
    """
    call = called(file, place, "image")
    if file["bytes"] is not None:
        return _upright(io.BytesIO(file["bytes"]), call)
    with opened(Path(file["path"]), call) as content:
        return _upright(content, call)


def _upright(content: Any, call: str) -> Any:
    with needing("image-classification"):
        from PIL import Image, ImageOps
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size, which is checked here, and of odd metadata
            found = Image.open(content, formats=FORMATS)
            _check_kind(found, call)
            found.load()
            return ImageOps.exif_transpose(found).convert("RGB")
    except DataError:
        raise
    except Exception as error:  # the readers of single formats raise anything
        why = _READER.sub("", said(error))
        raise DataError(
            f"{call} cannot be read as an image: {why}. Give a whole file in one of the formats "
            f"{', '.join(FORMATS)}, or leave it out."
        ) from error


def _check_kind(found: Any, call: str) -> None:
    width, height = found.size
    if width * height > MOST_PIXELS:
        raise DataError(
            f"{call} has {width} x {height} pixels; at most {MOST_PIXELS} are read. Make it "
            "smaller; models read a few hundred pixels a side."
        )
    if found.mode.startswith(DEEP):
        raise DataError(
            f"{call} has more than eight bits a channel (mode {found.mode!r}), whose range only "
            "you know. Save it with eight."
        )


def pixels_of(processor: Any, images: Sequence[Any]) -> dict[str, Any]:
    """What an image processor makes of images: tensors, with ``pixel_values`` among them.

    Args:
        processor: an image processor of transformers.
        images: in RGB.
    """
    # Said outright, since a picture of three rows could be taken for one of three channels.
    return dict(processor(images=[*images], return_tensors="pt", input_data_format="channels_last"))
