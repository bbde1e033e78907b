"""Tiny models of images and sound, and files for them, made here without any download."""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def write_vit(folder: Path, **more) -> Path:
    """A tiny ViT without a head, with its image processor, saved the way a user has it."""
    shape = {"hidden_size": 24, "intermediate_size": 32, "num_attention_heads": 4}
    config = transformers.ViTConfig(
        **shape, num_hidden_layers=3, image_size=8, patch_size=4, **more
    )
    torch.manual_seed(0)
    kind = transformers.ViTForImageClassification if more else transformers.ViTModel
    kind(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    return folder


def picture(colour: str, seed: int = 0, size: tuple[int, int] = (6, 5)):
    """A noisy picture of a colour."""
    from PIL import Image

    noise = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, num: int = 4, seed: int = 0) -> Path:
    """A folder with a subfolder of pictures for each colour."""
    for place, colour in enumerate(COLOURS):
        (folder / colour).mkdir(parents=True)
        for number in range(num):
            picture(colour, 100 * seed + 10 * place + number).save(
                folder / colour / f"{number}.png"
            )
    return folder


def write_rows(path: Path, rows: list[dict]) -> Path:
    """A table of rows: csv or jsonl, by its suffix."""
    if path.suffix == ".jsonl":
        lines = map(json.dumps, rows)
    else:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
