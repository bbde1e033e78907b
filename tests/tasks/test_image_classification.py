"""One label for each image: folders of classes, tables of paths, data sets with images inside."""

import gzip
import io
import json
import logging
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from datasets import ClassLabel, Dataset, Features, Image
from rich.console import Console

import headcount as hc
from headcount.arena.compare import CompareOptions, compare
from headcount.arena.grid import Grid, Settings
from headcount.arena.latency import Timing
from headcount.errors import CheckpointError, DataError
from headcount.runs.data import gather
from headcount.runs.recipe import Recipe
from headcount.tasks import TASKS, ImageClassification
from headcount.tasks import images as images_module
from media_cases import picture, write_pictures, write_rows, write_vit
from real_models import real_model

pytest.importorskip("PIL", reason="the extra vision is missing")

TASK = TASKS["image-classification"]
RECIPE = Recipe(epochs=4, batch_size=4, learning_rate=1e-2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_vit(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def processor(model):
    return TASK.load_processor(str(model))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures")


def data_of(source, processor, labels=None, **given):
    task = ImageClassification(**given)
    return task.dataset([source], processor, max_length=1, split="train", labels=labels)


def stored(path, names=("blue", "red"), kind=Image):
    """A parquet file with the images themselves, as the hub has it."""
    rows = {"image": [], "label": []}
    for number, name in enumerate(names):
        content = io.BytesIO()
        picture(name, number).save(content, format="PNG")
        rows["image"].append({"bytes": content.getvalue(), "path": f"{number}.png"})
        rows["label"].append(number)
    features = Features({"image": kind(), "label": ClassLabel(names=list(names))})
    Dataset.from_dict(rows, features=features).to_parquet(path)
    return path


def test_a_folder_of_classes(pictures, processor):
    found = data_of(pictures, processor)
    assert TASK.labels(found) == ("blue", "green", "red")
    assert found["labels"] == [0] * 4 + [1] * 4 + [2] * 4
    batch = TASK.collator(processor)([found[row] for row in (0, 11)])
    assert batch["labels"].tolist() == [0, 2]
    assert batch["pixel_values"].shape == (2, 3, 8, 8)
    expected = processor(picture("blue", 0), return_tensors="pt")["pixel_values"]
    assert torch.equal(batch["pixel_values"][:1], expected)


def test_splits_of_a_folder(pictures, processor, tmp_path):
    for name, seed in (("train", 1), ("dev", 2)):
        write_pictures(tmp_path / name, num=2, seed=seed)
    assert len(data_of(tmp_path, processor)) == 6
    with pytest.raises(DataError, match=r"the splits \['dev', 'train'\], but no 'test'. Give the"):
        TASK.read([tmp_path], split="test")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
@pytest.mark.parametrize(
    "columns", [("image", "label"), ("file_name", "class"), ("Path", "target")]
)
def test_tables_of_paths(pictures, processor, tmp_path, name, columns):
    (tmp_path / "inner").symlink_to(pictures)
    rows = [dict(zip(columns, (f"inner/{c}/0.png", c), strict=True)) for c in ("red", "green")]
    path = write_rows(tmp_path / name, rows)
    if name.endswith("tsv"):
        path.write_text(path.read_text().replace(",", "\t"))
    found = data_of(path, processor)
    assert TASK.labels(found) == ("green", "red")
    assert found["labels"] == [1, 0]


def test_paths_may_be_absolute_or_lead_out_of_the_folder(pictures, processor, tmp_path):
    rows = [{"image": pictures / "red" / "0.png", "label": "a"},
            {"image": Path("..") / "pictures" / "red" / "1.png", "label": "b"}]  # fmt: skip
    place = pictures.parent / "table"
    place.mkdir(exist_ok=True)
    assert data_of(write_rows(place / "a.csv", rows), processor)["labels"] == [0, 1]


def test_metadata_in_a_folder(processor, tmp_path):
    for name in ("red", "blue"):
        picture(name).save(tmp_path / f"{name}.png")
    rows = [{"file_name": f"{name}.png", "label": name} for name in ("red", "blue")]
    write_rows(tmp_path / "metadata.csv", rows)
    assert data_of(tmp_path, processor)["labels"] == [1, 0]


def test_images_in_a_parquet_file_and_in_a_folder_of_the_hub(processor, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    stored(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    path = stored(tmp_path / "a.parquet")
    for source in (path, tmp_path / "hub"):
        found = data_of(source, processor)
        assert TASK.labels(found) == ("blue", "red")
        assert found[0]["pixel_values"]["bytes"].startswith(b"\x89PNG")
        batch = TASK.collator(processor)([found[1]])
        expected = processor(picture("red", 1), return_tensors="pt")["pixel_values"]
        assert torch.equal(batch["pixel_values"], expected)


def test_sources_of_several_kinds_make_one_table(pictures, processor, tmp_path):
    path = stored(tmp_path / "a.parquet")
    table = TASK.read([pictures, path], split="train")
    assert len(table) == 14
    assert table["place"][13] == "'a.parquet' row 2"
    found = TASK.encode(table, processor, max_length=1, split="train")
    assert found["labels"][12:] == [0, 2]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "LA"])
def test_modes_of_images(processor, tmp_path, mode):
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        end = "tif" if mode == "CMYK" else "png"
        picture(name).convert(mode).save(tmp_path / name / f"a.{end}")
    found = data_of(tmp_path, processor)
    batch = TASK.collator(processor)([found[0]])
    assert batch["pixel_values"].shape == (1, 3, 8, 8)


def test_images_are_turned_as_the_camera_says(processor, tmp_path):
    image = picture("red", size=(8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "a.png", exif=exif)
    (row,) = images_module.classes(images_module.IMAGES, tmp_path, "read")
    found = images_module.decoded({"bytes": None, "path": str(row[0])}, "row")
    assert found.size == (4, 8)


@pytest.mark.parametrize("size", [(3, 3), (1, 1), (7, 1), (1, 3), (300, 2)])
def test_strange_sizes_are_pictures_all_the_same(processor, tmp_path, size):
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        picture(name, size=size).save(tmp_path / name / "a.png")
    batch = TASK.collator(processor)([data_of(tmp_path, processor)[1]])
    assert batch["pixel_values"].shape == (1, 3, 8, 8)
    assert (batch["pixel_values"][0].mean((1, 2)).argmax()) == 0  # red


def test_pixels_are_made_when_they_are_needed(pictures, processor):
    """What is kept of an image is its file: a large set of them fits into memory."""
    found = data_of(pictures, processor)
    assert found[0]["pixel_values"] == {"bytes": None, "path": str(pictures / "blue" / "0.png")}
    assert list(TASK.sizes(found)) == [1] * 12
    assert [*found.features] == ["pixel_values", "labels"]


# What cannot be used.


def png(width: int, height: int) -> bytes:
    """The beginning of a PNG file that says its size, with nothing behind it."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head)) + b"IHDR" + head
    body = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return body + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def whole(end: str = "PNG") -> bytes:
    content = io.BytesIO()
    picture("red", size=(64, 64)).save(content, format=end)
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.png", b"no image at all", "cannot be read as an image: cannot identify image file"),
        ("a.png", b"", "is empty: 0 bytes. Give a whole one, or leave the row out"),
        ("a.png", whole()[:2000], "cannot be read as an image"),
        ("a.jpg", whole("JPEG")[:700], "cannot be read as an image: .*truncated"),
        ("a.png", whole()[:60] + bytes(200) + whole()[260:], "cannot be read as an image"),
        ("a.png", png(12_000, 12_000), "has 12000 x 12000 pixels; at most 100000000 are read"),
        ("a.png", png(50_000, 50_000), r"Image size \(2500000000 pixels\) exceeds limit"),
        ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read as an im"),
        ("a.gif", b"GIF89a", "cannot be read as an image"),
    ],
)
def test_files_that_are_no_whole_images(processor, tmp_path, name, content, said):
    for label in ("x", "y"):
        (tmp_path / label).mkdir()
        picture("red").save(tmp_path / label / "0.png")
    (tmp_path / "y" / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        data_of(tmp_path, processor)
    assert f"y/{name}" in str(caught.value)


def test_more_than_eight_bits(processor, tmp_path):
    from PIL import Image as Pillow

    for label in ("x", "y"):
        (tmp_path / label).mkdir()
        deep = np.full((4, 4), 40_000, np.uint16)
        Pillow.fromarray(deep).save(tmp_path / label / "0.png")
    with pytest.raises(DataError, match=r"more than eight bits a channel \(mode 'I;16'\)"):
        data_of(tmp_path, processor)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("gone.png", r"'a.csv' line 3: there is no image 'gone.png' \(looked for at "),
        ("", "'a.csv' line 3 has '' as 'image'. Give the path of a file there"),
        ("https://example.org/a.png", "'a.csv' line 3 has the address .* nothing is downloaded"),
        (".", "line 3: '.': it is a folder. Give a file on a disk"),
        ("/dev/zero", "it is a device"),
        ("a\0b.png", "there is no image"),
    ],
)
def test_paths_that_lead_to_no_image(pictures, processor, tmp_path, cell, said):
    rows = [{"image": pictures / "red" / "0.png", "label": "a"}, {"image": cell, "label": "b"}]
    with pytest.raises(DataError, match=said):
        data_of(write_rows(tmp_path / "a.csv", rows), processor)


def folder_of(place: Path, *names: str) -> Path:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (place / name).mkdir(exist_ok=True)
        elif name.endswith(".png"):
            picture("red").save(place / name)
        else:
            (place / name).write_text("words")
    return place


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["./"], "the folder has no subfolders. Give one with a subfolder of images for each"),
        (["x/0.png", "y/"], "the folder 'y' has no image. Give images"),
        (["x/0.png", "y/a.txt"], "the folder 'y' has no image"),
        (["x/0.png", "1.png"], "'1.png' stands in no folder of a label"),
        (["x/0.png", "y/z/0.png"], "'y/z' is a folder in the folder of a label. Give images there"),
        (["x/0.png"], r"the only label in column 'label' is \['x'\]. Give examples of two"),
        (["x/0.png", "X/0.png"], r"the labels \['X', 'x'\] differ in capitals alone"),
    ],
)
def test_folders_that_are_no_classes(processor, tmp_path, names, said):
    with pytest.raises(DataError, match=said):
        data_of(folder_of(tmp_path / "data", *names), processor)


def test_other_files_are_left_out_and_told(processor, tmp_path, caplog):
    folder = folder_of(tmp_path, "x/0.png", "y/0.png", "y/notes.txt", "README.md", ".hidden/a")
    with caplog.at_level(logging.WARNING, logger="headcount"):
        assert len(data_of(folder, processor)) == 2
    assert "1 files are left out that are no images: y/notes.txt" in caplog.text


@pytest.mark.parametrize(
    ("header", "given", "said"),
    [
        (("photo", "label"), {}, "is known to be the image. Name it: --task-set image=COLUMN"),
        (("image", "kind"), {}, "is known to be the label. Name it: --task-set label=COLUMN"),
        (("image", "label"), {"image": "photo"}, "there is no column 'photo'"),
    ],
)
def test_tables_without_the_columns(pictures, processor, tmp_path, header, given, said):
    path = write_rows(tmp_path / "a.csv", [{header[0]: pictures / "red/0.png", header[1]: "a"}])
    with pytest.raises(DataError, match=said):
        data_of(path, processor, **given)


def test_cells_that_are_no_images(processor, tmp_path):
    pq.write_table(pa.table({"image": [[[1, 2]]], "label": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"row 1 has \[\[1, 2\]\] as 'image'. Give the path"):
        data_of(tmp_path / "a.parquet", processor)
    empty = pa.array([{"bytes": b"", "path": None}])
    pq.write_table(pa.table({"image": empty, "label": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"'b.parquet' row 1: the image there cannot be"):
        data_of(tmp_path / "b.parquet", processor, labels=("a", "b"))
    stored(tmp_path / "c.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="not a parquet file"):
        data_of(tmp_path / "c.parquet", processor)


def test_labels_that_cannot_be(pictures, processor, tmp_path):
    rows = [{"image": pictures / "red/0.png", "label": label} for label in ("a", "")]
    with pytest.raises(DataError, match=r"'a.csv' line 3 has no label\. Give one"):
        data_of(write_rows(tmp_path / "a.csv", rows), processor)
    rows[1]["label"] = "c"
    with pytest.raises(DataError, match=r"'a\.csv' line 3 has the label 'c', which the training"):
        data_of(write_rows(tmp_path / "a.csv", rows), processor, labels=("a", "b"))


def test_a_table_that_is_not_utf8(processor, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"image,label\na.png,caf\xe9\n")
    with pytest.raises(DataError, match="line 2: not UTF-8 text"):
        data_of(tmp_path / "a.csv", processor)


def test_too_many_files(processor, tmp_path, monkeypatch):
    monkeypatch.setattr("headcount.tasks.media.MOST_FILES", 3)
    with pytest.raises(DataError, match="holds more than 3 files"):
        data_of(write_pictures(tmp_path / "a"), processor)


def test_images_that_a_processor_makes_unequal(model, tmp_path):
    kind = transformers.models.vit.image_processing_pil_vit.ViTImageProcessorPil
    for name, size in (("red", (8, 8)), ("blue", (8, 4))):
        (tmp_path / name).mkdir()
        picture(name, size=size).save(tmp_path / name / "0.png")
    with pytest.raises(DataError, match=r"'red/0.png': .* a batch needs one shape. Set its size"):
        data_of(tmp_path, kind(do_resize=False))


def test_a_file_that_goes_after_it_was_read(processor, tmp_path):
    found = data_of(write_pictures(tmp_path / "a"), processor)
    (tmp_path / "a" / "red" / "0.png").unlink()
    with pytest.raises(DataError, match=r"red/0.png.* the file cannot be read: No such file"):
        TASK.collator(processor)([found[8]])


def test_models_without_an_image_processor(tmp_path):
    transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="its image processor cannot be loaded"):
        TASK.load_processor(str(tmp_path))
    with pytest.raises(DataError, match=r"it makes no pixel_values\. Give the model's image proc"):
        TASK.check_processor(transformers.BertTokenizer(), 1)


def test_a_classifier_for_other_labels_keeps_them_or_is_replaced(pictures, tmp_path):
    tuned = write_vit(tmp_path / "tuned", num_labels=30)
    with pytest.raises(DataError, match=r"classifies into 30 labels, 'LABEL_0' first. .*new_head"):
        ImageClassification().load_model(tuned, ("a", "b"))
    found = ImageClassification(new_head=True).load_model(tuned, ("a", "b"))
    assert found.num_labels == 2
    assert found.config.id2label == {0: "a", 1: "b"}


# Whole runs.


def test_the_task_prunes_and_its_folder_runs_in_a_pipeline(model, pictures, tmp_path):
    result = hc.prune(
        model,
        task="image-classification",
        train=[pictures],
        eval=[pictures],
        budget=hc.Budget(heads=6),
        method=hc.Random(),
        output=tmp_path / "small",
        options=hc.Options(recipe=RECIPE),
    )
    assert hc.units(result.model).num("head") == 6
    assert result.report.rows[-1].quality > 0.9
    assert result.report.rows[-1].macs < result.report.rows[0].macs
    found = hc.evaluate(tmp_path / "small", eval=[pictures], task="image-classification")
    assert found["accuracy"] == result.report.rows[-1].quality
    card = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: image-classification" in card
    pytest.importorskip("PIL")
    if not hasattr(transformers.AutoImageProcessor, "is_dummy"):
        pipe = transformers.pipeline("image-classification", str(tmp_path / "small"))
        assert pipe(picture("green", 77))[0]["label"] == "green"


def test_nothing_is_left_behind_after_bad_data(model, pictures, tmp_path):
    folder = folder_of(tmp_path / "bad", "blue/0.png", "green/0.png", "red/0.png", "red/1.txt")
    (folder / "red" / "2.png").write_bytes(b"GIF89a")
    for train, evaluation in ((folder, pictures), (pictures, folder)):
        with pytest.raises(DataError, match=r"red/2.png"):
            hc.prune(
                model,
                task="image-classification",
                train=[train],
                eval=[evaluation],
                budget=hc.Budget(heads=6),
                output=tmp_path / "small",
                options=hc.Options(recipe=RECIPE),
            )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "more"),
    [
        (hc.DSP(), {"distil": True}),
        (hc.DSP(training="pipelined"), {"recover_epochs": 1.0}),
        (hc.Fisher(), {}),
        (hc.GradientImportance(), {}),
        (hc.Magnitude(), {}),
    ],
)
def test_every_kind_of_method_prunes(model, pictures, tmp_path, method, more):
    result = hc.prune(
        model,
        task=ImageClassification(metric="f1"),
        train=[pictures],
        eval=[pictures],
        budget=hc.Budget(heads=6, neurons=0.5),
        method=method,
        output=tmp_path / "small",
        options=hc.Options(recipe=RECIPE, **more),
    )
    assert hc.units(result.model).num("head") == 6
    assert result.report.metric == "f1"
    assert json.loads((tmp_path / "small" / "report.json").read_text())["task"] == TASK.name


def test_training_sees_the_same_order_again(model, pictures, tmp_path):
    from headcount.runs.run import _given, dense_run
    from headcount.training.fine_tuner import FineTuner

    data = gather(str(model), "image-classification", [pictures], [pictures], RECIPE)
    orders = []
    for _ in range(2):
        given, _ = _given(dense_run(str(model), RECIPE), data, tmp_path, Console(quiet=True))
        tuner = FineTuner(data.fresh_model(str(model)), **given)
        sampler = tuner._get_train_sampler()
        orders.append([*sampler])
        sampler.set_epoch(1)
        orders.append([*sampler])
    assert orders[:2] == orders[2:]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == list(range(12)) != orders[0]


def test_a_missing_package_is_named_when_the_task_is_used(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(
        hc.MissingPackageError, match=r"image-classification: this needs PIL\. Inst"
    ):
        TASK.load_processor(str(model))


def test_a_comparison_counts_and_times_images(model, pictures, tmp_path, monkeypatch):
    """A budget of MACs is about tokens, of which an image has its own number."""
    settings = Settings(
        model=str(model),
        task="image-classification",
        train=(str(pictures),),
        eval=(str(pictures),),
        recipe=RECIPE,
        axis="macs",
        budget={"length": 5},
    )
    grid = Grid(settings=settings, methods={"random": hc.Random()}, amounts=(0.6,), seeds=(0,))
    how = CompareOptions(timing=Timing(batch=2, num_runs=1), console=Console(quiet=True))
    found = compare(grid, tmp_path / "out", how)
    assert not found.unfinished
    assert found.latencies.keys() == {("dense", None), ("random", 0.6)}


# Real images and a real model.

FASHION = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    """Some of Debian's package dataset-fashion-mnist: shoes, bags and trousers."""
    if not FASHION.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not there")
    from PIL import Image as Pillow

    folder = tmp_path_factory.mktemp("clothes")
    names = {1: "trouser", 7: "sneaker", 8: "bag"}
    with gzip.open(FASHION / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FASHION / "t10k-labels-idx1-ubyte.gz") as file:
        golds = np.frombuffer(file.read(), np.uint8, offset=8)
    for number, (image, gold) in enumerate(zip(pixels[:240], golds, strict=False)):
        if gold in names:
            place = folder / ("train" if number < 160 else "test") / names[gold]
            place.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(image).save(place / f"{number}.png")
    return folder


@pytest.mark.slow
def test_a_real_model_tells_clothes_apart(clothes, tmp_path):
    result = hc.prune(
        real_model("dinov2-small"),
        task="image-classification",
        train=[clothes],
        eval=[clothes / "test"],
        budget=hc.Budget(heads=54),
        method=hc.DSP(),
        output=tmp_path / "small",
        options=hc.Options(
            recipe=Recipe(epochs=3, batch_size=8, learning_rate=5e-5), latency_batch=1
        ),
    )
    assert hc.units(result.model).num("head") == 54
    assert result.report.rows[-1].quality > 0.7
