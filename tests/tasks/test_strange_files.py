"""Files that are no data: each is told in a sentence, and none takes long or much memory."""

import gzip
import json
import logging
import os
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset

from cases import word_tokenizer
from headcount.errors import ArgumentError, DataError
from headcount.runs.data import describe_source
from headcount.tasks import TASKS
from headcount.tasks.bounds import LONGEST_LINE, is_data_file
from headcount.tasks.files import place_of, read_table

COLUMNS = ("premise", "label")
HEADER = b"premise\tlabel\n"
TASK = TASKS["nli"]


@pytest.fixture(autouse=True)
def _no_hang():
    """A read that waits for ever fails instead."""

    def late(*_):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def message_of(source, columns=COLUMNS):
    with pytest.raises(DataError) as caught:
        read_table([source], columns, split="train")
    return str(caught.value)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/dev/zero", "it is a device"),
        ("/dev/null", "it is a device"),
        ("/dev/tty", "it is a device|no such file"),
        ("/proc/self/mem", "the file is empty"),
        ("/proc/self/environ", "the file is empty"),
        ("/proc/kmsg", "the file is empty|cannot be read"),
        ("/proc", "is the system's"),
        ("/sys", "is the system's"),
        ("/dev", "is the system's"),
        ("/proc/self/fd", "is the system's"),
        ("gone", "there is no such file"),
    ],
)
@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl.gz", "a.parquet"])
def test_links_to_what_is_the_system_s(tmp_path, target, said, name):
    if target != "gone" and not Path(target).exists():
        pytest.skip("not on this system")
    (tmp_path / name).symlink_to(target)
    with pytest.raises(DataError, match=said):
        read_table([tmp_path / name], COLUMNS, split="train")
    assert describe_source(tmp_path / name)[1] is None
    assert not is_data_file(tmp_path / name)


def test_pipes_and_sockets(tmp_path):
    os.mkfifo(tmp_path / "a.tsv")
    assert "it is a pipe. Give a file on a disk." in message_of(tmp_path / "a.tsv")
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / "train.csv")
    assert "is no file or folder that can be read" in message_of(tmp_path / "data")


def test_folders(tmp_path, monkeypatch):
    (tmp_path / "data.tsv").mkdir()
    assert "the data set cannot be loaded" in message_of(tmp_path / "data.tsv")
    for number in range(3):
        (tmp_path / "data.tsv" / f"{number}.txt").write_text("a")
    monkeypatch.setattr("headcount.tasks.bounds.MOST_ENTRIES", 2)
    assert "holds more than 2 files" in message_of(tmp_path / "data.tsv")


@pytest.mark.parametrize("name", ["x" * 300 + ".tsv", "a\0.tsv", "~nobody-of-this-name/a.tsv"])
def test_names_that_cannot_be(name):
    assert "there is no such file" in message_of(name)


@pytest.mark.parametrize("source", [None, 3, {"a": 1}, b"a.tsv"])
def test_sources_that_are_no_names(source):
    with pytest.raises(ArgumentError, match=r"read_table\(sources=.*files or hub data sets"):
        read_table([source], COLUMNS, split="train")


def test_files_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.tsv", HEADER + b"a\tb\n")
    assert len(read_table(["~/a.tsv"], COLUMNS, split="train")) == 1
    assert describe_source("~/a.tsv") == describe_source(tmp_path / "a.tsv")


def test_a_folder_is_known_by_the_names_and_sizes_of_its_files(tmp_path):
    folder = tmp_path / "photos"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "1.png").write_bytes(b"12")
    first = describe_source(folder)
    assert describe_source(str(folder)) == first
    (folder / "cat" / "1.png").write_bytes(b"123")
    assert describe_source(folder) != first
    (folder / "cat" / "1.png").write_bytes(b"12")
    (folder / "cat" / "1.png").rename(folder / "cat" / "2.png")
    assert describe_source(folder)[1] not in (None, first[1])


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tsv", HEADER + b"a\tb\ncaf\xe9\tb\n", "line 3: not UTF-8 text: .*Save it as UTF-8"),
        ("a.csv", b"premise,label\n\xff\xfea,b\n", "line 2: not UTF-8"),
        ("a.jsonl", b'{"premise": "\xe9", "label": 1}', "line 1: not UTF-8"),
        ("a.tsv", "premise\tlabel\na\tb\n".encode("utf-16"), "line 1: not UTF-8"),
        ("a.tsv", HEADER.replace(b"\n", b"\r") + b"a\tb\r", "there is no column 'label'"),
        ("a.tsv", HEADER + b"a" * (LONGEST_LINE + 9), "line 2 is longer than 1048576 bytes"),
        ("a.jsonl", b'{"premise": ' + b"[" * 90_000, "line 1 is not JSON: .*Give one object"),
        ("a.jsonl", b'{"premise": ' + b"9" * 9_000 + b', "label": 1}', "line 1 is not JSON"),
        ("a.jsonl", b'{"premise": "a", "label": 0, "label": 1}', "'label' occurs twice"),
        ("a.jsonl", b'{"premise": "\\ud800", "label": 0}', "line 1 has text that is no Unicode"),
        ("a.jsonl", b'{"premise": NaN, "label": 0}', "line 1 has nan as 'premise'"),
        ("a.jsonl", b'{"premise": {"a": 1}, "label": 0}', "line 1 has {'a': 1} as 'premise'"),
        ("a.jsonl", b"null\n", "line 1 is a JSON NoneType"),
        ("a.csv", b'premise,label\n"a,b\n' + b"c\n" * 90_000, "line .* is not CSV: field larger"),
        ("a.csv", b"premise,premise,label\na,b,c\n", "'premise' occurs twice"),
        ("a.tsv", b"\0\1\2" * 99, "there is no column 'premise'"),
        ("a.tsv", b"\t".join(b"c%d" % n for n in range(9_000)) + b"\n", "and 8988 more"),
    ],
)
def test_text_that_is_none(tmp_path, name, content, said, end):
    path = write(tmp_path / f"{name}{end}", content)
    with pytest.raises(DataError, match=said) as caught:
        read_table([path], COLUMNS, split="train")
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("content", [HEADER, b"\xef\xbb\xbf" + HEADER], ids=["plain", "bom"])
def test_windows_files_read(tmp_path, content):
    path = write(tmp_path / "a.tsv", content.replace(b"\n", b"\r\n") + b"a\t0\r\nb\t1\r\n")
    assert read_table([path], COLUMNS, split="train").to_list() == [
        {"premise": "a", "label": "0"},
        {"premise": "b", "label": "1"},
    ]


@pytest.mark.parametrize("name", ["a.tsv.gz", "a.parquet"])
def test_little_that_comes_to_much(tmp_path, name):
    """200 MB of one letter take 200 kB."""
    path = tmp_path / name
    if name.endswith("gz"):
        with gzip.open(path, "wb", 1) as file:
            file.write(HEADER)
            for _ in range(200):
                file.write(b"a" * 999_990 + b"\tb\n")
    else:
        column = pa.array(["a" * 100_000] * 2_000)
        pq.write_table(pa.table({"premise": column, "label": column}), path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "far more than text does" in message_of(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


class TestParquet:
    @pytest.fixture
    def path(self, tmp_path):
        rows = {"premise": ["a", "b"], "label": ["0", "1"]}
        Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_cut_short(self, path, share):
        content = path.read_bytes()
        write(path, content[: int(share * len(content))])
        assert "not a parquet file" in message_of(path)

    def test_damaged(self, path):
        content = path.read_bytes()
        for start in range(4, len(content) - 8, 37):
            write(path, content[:start] + b"\xff" * 9 + content[start + 9 :])
            with suppress(DataError):
                read_table([path], COLUMNS, split="train")

    @pytest.mark.parametrize("features", ["no JSON", '{"info": {"features": {"label": 3}}}'])
    def test_with_features_that_are_none(self, path, features):
        table = pq.read_table(path).replace_schema_metadata({"huggingface": features})
        pq.write_table(table, path)
        assert "not a parquet file" in message_of(path)

    @pytest.mark.parametrize("value", [-2, 2, -(2**40)])
    def test_a_class_label_out_of_range(self, tmp_path, value):
        names = ClassLabel(names=["entailment", "not_entailment"])
        good = Dataset.from_dict({"premise": ["a"] * 2, "label": [0, 1]}).cast_column(
            "label", names
        )
        schema = good.data.table.schema
        table = pa.table({"premise": ["a", "b"], "label": [0, value]})
        pq.write_table(table.cast(schema), tmp_path / "a.parquet")
        message = message_of(tmp_path / "a.parquet")
        assert f"row 2 has {value} as 'label'. Its class labels are 0 to 1" in message

    def test_a_column_twice(self, tmp_path):
        table = pa.table([["a"], ["b"], ["c"]], names=["premise", "label", "label"])
        pq.write_table(table, tmp_path / "a.parquet")
        assert "the column 'label' occurs twice" in message_of(tmp_path / "a.parquet")

    @pytest.mark.parametrize("value", [None, [1], {"a": 1}, b"a", float("nan")])
    def test_a_cell_that_is_no_text(self, tmp_path, value):
        pq.write_table(pa.table({"premise": [value], "label": ["0"]}), tmp_path / "a.parquet")
        assert "row 1 has" in message_of(tmp_path / "a.parquet")


class TestLabels:
    """Where a wrong label stands: in which file of several, and in which line."""

    @pytest.fixture
    def files(self, tmp_path):
        def pairs(name, *labels):
            rows = "".join(f"a dog\ta cat\t{label}\n" for label in labels)
            return write(tmp_path / name, f"premise\thypothesis\tlabel\n{rows}".encode())

        return pairs

    def read(self, *paths, labels=None, split="train"):
        return TASK.dataset(paths, word_tokenizer(), max_length=16, split=split, labels=labels)

    def test_unknown(self, files, tmp_path):
        good = files("a.tsv", "entailment", "neutral")
        bad = write(
            tmp_path / "b.jsonl",
            b"\n".join(
                json.dumps({"premise": "a", "hypothesis": "b", "label": label}).encode()
                for label in ("neutral", "maybe", "maybe")
            ),
        )
        with pytest.raises(DataError, match=r"'maybe' \(2 rows, the first at 'b\.jsonl' line 2\)"):
            self.read(good, bad)

    def test_of_evaluation_data(self, files):
        bad = files("dev.tsv", "-", "entailment", "1")
        with pytest.raises(
            DataError, match=r"'1', that is neutral \(1 rows, the first at 'dev\.tsv' line 4\)"
        ):
            self.read(bad, labels=("entailment", "not_entailment"), split="validation")

    def test_places_of_a_table(self, files):
        table = read_table([files("a.tsv", "0"), files("b.tsv", "0", "1")], ["label"], split="t")
        assert [place_of(table, row) for row in range(3)] == [
            "'a.tsv' line 2",
            "'b.tsv' line 2",
            "'b.tsv' line 3",
        ]
        assert place_of(table.select([0]), 0) == ""

    @pytest.mark.parametrize("labels", [("0", "1"), ("1", "0", "1", "-"), ("0", "2"), ("2", "1")])
    def test_two_numbers_are_those_of_another_task(self, files, labels):
        """As in QNLI, MRPC and QQP with their columns renamed."""
        with pytest.raises(DataError, match=r"the labels are . and . alone.*another task.*Write"):
            self.read(files("a.tsv", *labels))

    def test_two_names_are_not(self, files):
        table = self.read(files("a.tsv", "entailment", "not_entailment"))
        assert TASK.labels(table) == ("entailment", "not_entailment")

    def test_two_numbers_to_evaluate_on_are_told(self, files, caplog):
        names = ("entailment", "neutral", "contradiction")
        with caplog.at_level(logging.WARNING, "headcount"):
            self.read(files("a.tsv", "0", "1"), labels=names, split="validation")
        assert "the labels are 0 and 1 alone, read as entailment and neutral" in caplog.text

    @pytest.mark.parametrize(
        "columns", ["question\tsentence\tlabel", "sentence1\tsentence2\tlabel", "question1\tq\tis"]
    )
    def test_columns_of_another_task_are_not_called_misnamed_alone(self, tmp_path, columns):
        path = write(tmp_path / "a.tsv", f"{columns}\na\tb\t1\n".encode())
        with pytest.raises(DataError, match=r"Rename them to .* pairs of another task, such as"):
            self.read(path)


def test_an_interruption_while_data_are_tokenised_ends_it(tmp_path, monkeypatch):
    """The hash of the tokenising function is not made: in it, Ctrl-C was swallowed."""
    rows = "".join(f"a\tb\t{label}\n" for label in ("entailment", "neutral"))
    path = write(tmp_path / "a.tsv", f"premise\thypothesis\tlabel\n{rows}".encode())

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    tokenizer = word_tokenizer()
    monkeypatch.setattr(type(tokenizer), "__reduce_ex__", interrupted)
    TASK.dataset([path], tokenizer, max_length=16, split="train")
    monkeypatch.setattr(type(tokenizer), "__call__", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        TASK.dataset([path], tokenizer, max_length=16, split="train")
    assert time.monotonic() - began < 10
