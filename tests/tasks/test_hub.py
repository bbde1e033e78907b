"""Data sets by id, tried on a folder in the hub's layout."""

import datasets
import pytest

from headcount.errors import DataError
from headcount.tasks.files import read_table
from headcount.tasks.hub import load_hub, parse_hub_id

CARD = """---
configs:
- config_name: pairs
  default: true
  data_files:
  - split: train
    path: pairs/train.csv
  - split: test
    path: pairs/test.csv
- config_name: other
  data_files:
  - split: train
    path: other.csv
---
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "tiny"
    (root / "pairs").mkdir(parents=True)
    (root / "README.md").write_text(CARD)
    for name in ("pairs/train", "pairs/test", "other"):
        (root / f"{name}.csv").write_text(f"text,label\n{name},1\n")
    return root


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("tiny", "pairs/train"),
        ("tiny:pairs", "pairs/train"),
        ("tiny:pairs:test", "pairs/test"),
        ("tiny::test", "pairs/test"),
        ("tiny:other", "other"),
    ],
)
def test_configs_and_splits(folder, source, expected):
    assert load_hub(source, split="train")["text"] == [expected]
    table = read_table([source], ["text", "label"], split="train")
    assert table.to_list() == [{"text": expected, "label": "1"}]


def test_folder_by_its_path(folder):
    assert read_table([folder], ["text"], split="test").to_list() == [{"text": "pairs/test"}]
    with pytest.raises(DataError, match=r"the table has no column 'premise'; it has \['text'"):
        read_table([folder], ["premise"], split="test")


@pytest.mark.parametrize(
    ("source", "call"),
    [
        ("tiny::dev", "load_dataset('tiny', None, split='dev')"),
        ("tiny:none", "load_dataset('tiny', 'none', split='train')"),
        ("nobody/nothing", "load_dataset('nobody/nothing', None, split='train')"),
    ],
)
def test_what_cannot_be_loaded(folder, source, call):
    with pytest.raises(DataError) as caught:
        read_table([source], ["text"], split="train")
    message = str(caught.value)
    assert message.startswith(f"{call}: the data set cannot be loaded. ")
    assert message.endswith(" Give an existing file, or a hub data set as 'id:config:split'.")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("snli", ("snli", None, "train")),
        ("a/b:c", ("a/b", "c", "train")),
        ("a/b:c:d", ("a/b", "c", "d")),
        ("a/b::d", ("a/b", None, "d")),
    ],
)
def test_parts_of_an_id(source, expected):
    assert parse_hub_id(source, split="train") == expected
