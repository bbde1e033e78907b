"""Tables: every form reads back what was written, and every bad file is told exactly."""

import csv
import gzip
import io
import json
import re
from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from headcount.errors import DataError
from headcount.tasks.files import read_table
from headcount.tasks.rows import read_rows

COLUMNS = ("premise", "label")
ROWS = [
    {"premise": 'He said "no", twice.', "label": "neutral"},
    {"premise": "None", "label": "entailment"},
    {"premise": "  Blanks stay. ", "label": "-1"},
    {"premise": "é—NA\u2028", "label": "0"},
]


def as_tsv(rows):
    return (
        "\n".join(
            "\t".join(cells)
            for cells in [
                ("label", "id", "premise"),
                *((row["label"], "7", row["premise"]) for row in rows),
            ]
        )
        + "\n"
    )


def as_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, ["label", "premise"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_jsonl(rows):
    return "\n\n".join(json.dumps({"id": [1], **row}) for row in rows)


TEXT = {".tsv": as_tsv, ".csv": as_csv, ".jsonl": as_jsonl}


def write(folder, name, content):
    path = Path(folder) / name
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def message_of(sources, columns=COLUMNS):
    with pytest.raises(DataError) as caught:
        read_table(sources, columns, split="train")
    return str(caught.value)


@pytest.mark.parametrize("form", TEXT)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_text_forms_read_back(tmp_path, form, end):
    path = write(tmp_path, f"data{form}{end}", TEXT[form](ROWS))
    table = read_table([path], COLUMNS, split="train")
    assert table.column_names == list(COLUMNS)
    assert table.to_list() == ROWS
    assert read_table([str(path)], COLUMNS, split="train").to_list() == ROWS


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n\0\ufeff"))


@pytest.mark.parametrize("form", TEXT)
@given(st.lists(st.fixed_dictionaries({"premise": CELLS, "label": CELLS}), min_size=1, max_size=5))
def test_any_text_reads_back(tmp_path_factory, form, rows):
    path = write(tmp_path_factory.mktemp("any"), f"a{form}", TEXT[form](rows))
    cells, _ = read_rows(path, COLUMNS, suffix=form, call="call")
    assert cells == {column: [row[column] for row in rows] for column in COLUMNS}


def test_csv_cells_may_hold_line_ends(tmp_path):
    path = write(tmp_path, "a.csv", 'premise,label\r\n"two\nlines, ""quoted""",1\r\n')
    expected = {"premise": 'two\nlines, "quoted"', "label": "1"}
    assert read_table([path], COLUMNS, split="train").to_list() == [expected]


def test_tsv_has_no_quoting(tmp_path):
    path = write(tmp_path, "a.tsv", 'premise\tlabel\n"open\t1\nclose"\t2\r\n\n')
    assert read_table([path], COLUMNS, split="train")["premise"] == ['"open', 'close"']


def test_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = write(tmp_path, "a.CSV", b"\xef\xbb\xbfpremise,label\na,b\n")
    assert read_table([path], COLUMNS, split="train").to_list() == [{"premise": "a", "label": "b"}]


def test_files_are_joined_in_order(tmp_path):
    paths = [write(tmp_path, f"data{form}", TEXT[form](ROWS)) for form in TEXT]
    assert read_table(paths, COLUMNS, split="train").to_list() == ROWS * 3


def class_labels(values):
    names = ClassLabel(names=["entailment", "not_entailment"])
    rows = {"label": values, "premise": ["a"] * len(values), "more": [[1]] * len(values)}
    table = Dataset.from_dict(rows)
    return table.cast_column("label", names)


def test_parquet_and_names_of_class_labels(tmp_path):
    path = tmp_path / "a.parquet"
    class_labels([1, 0, -1, None]).to_parquet(path)
    table = read_table([path], COLUMNS, split="train")
    assert table["label"] == ["not_entailment", "entailment", "-", "-"]


def test_numbers_become_strings(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"premise": 1.5, "label": 0}')
    assert read_table([path], COLUMNS, split="train").to_list() == [
        {"premise": "1.5", "label": "0"}
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.tsv", "", "the file is empty. Give one with a header and rows."),
        ("a.jsonl", "", "the file is empty. Give one with a header and rows."),
        ("a.jsonl", "\n \n", "the file has no rows. Give one with at least one row."),
        (
            "a.tsv",
            "premise\tlabel\n\n",
            "the file has no rows. Give one with at least one row.",
        ),
        (
            "a.csv",
            "sentence1,label,id\n",
            "there is no column 'premise'; the columns are ['sentence1', 'label', 'id']. Rename "
            "them to ['premise', 'label'].",
        ),
        (
            "a.tsv.gz",
            "a\tb\nc\td\n",
            "there is no column 'premise', 'label'; the columns are ['a', 'b']. Rename them to "
            "['premise', 'label'].",
        ),
        (
            "a.jsonl",
            '{"premise": "a", "label": 0}\n\n{"premise": "a"}\n',
            "line 3: there is no column 'label'; the columns are ['premise']. Rename them to "
            "['premise', 'label'].",
        ),
        (
            "a.tsv",
            "premise\tlabel\tlabel\na\tb\tc\n",
            "the column 'label' occurs twice. Rename one of them.",
        ),
        (
            "a.tsv",
            "premise\tlabel\na\tb\n\na\tb\tc\n",
            "line 4 has 3 cells, the header has 2. Give each line as many cells as the header.",
        ),
        (
            "a.csv",
            'premise,label\n"a\nb",c\nd\n',
            "line 4 has 1 cells, the header has 2. Give each line as many cells as the header.",
        ),
        (
            "a.csv",
            'premise,label\na,"b"c\n',
            "line 2 is not CSV: ',' expected after '\"'. Put double quotes around cells with "
            "commas, line ends or double quotes, and double the quotes inside.",
        ),
        (
            "a.jsonl",
            '{"premise": "a", "label": 0}\n{"premise": \n',
            "line 2 is not JSON: Expecting value: line 2 column 1 (char 13). Give one object a "
            "line.",
        ),
        ("a.jsonl", "[1, 2]\n", "line 1 is a JSON list. Give one object a line."),
        (
            "a.jsonl",
            '{"premise": null, "label": 0}',
            "line 1 has None as 'premise'. Give a string or a number.",
        ),
        (
            "a.jsonl",
            '{"premise": "a", "label": true}',
            "line 1 has True as 'label'. Give a string or a number.",
        ),
    ],
)
def test_bad_content(tmp_path, name, content, expected):
    path = write(tmp_path, name, content)
    assert message_of([path]) == f"read_table({str(path)!r}): {expected}"


@pytest.mark.parametrize(
    "content",
    [b"premise\tlabel\na\tb\n", gzip.compress(b"a\tb\n" * 9, mtime=0)[:-9]],
    ids=["plain", "cut short"],
)
def test_not_gzip(tmp_path, content):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(content)
    message = message_of([path], ["a"])
    assert message.startswith(f"read_table({str(path)!r}): not a whole gzip file: ")
    assert message.endswith(". Compress it again.")


def test_not_utf8(tmp_path):
    path = write(tmp_path, "a.tsv", "premise\tlabel\ncaf\xe9\tb\n".encode("latin-1"))
    assert re.fullmatch(r".*: not UTF-8 text: .*\. Save it as UTF-8\.", message_of([path]))


def test_not_parquet(tmp_path):
    path = write(tmp_path, "a.parquet", "premise\tlabel\n")
    assert message_of([path]).startswith(f"read_table({str(path)!r}): not a parquet file. ")


def test_parquet_without_column_or_rows_or_text(tmp_path):
    path = tmp_path / "a.parquet"
    class_labels([1]).to_parquet(path)
    assert message_of([path], ["text"]) == (
        f"read_table({str(path)!r}): the table has no column 'text'; it has ['label', 'premise', "
        "'more']. Rename its columns to ['text']."
    )
    assert message_of([path], ["more"]) == (
        f"read_table({str(path)!r}): row 1 has [1] as 'more'. Give a string or a number."
    )
    Dataset.from_dict({"text": []}, features=Features({"text": Value("string")})).to_parquet(path)
    assert message_of([path], ["text"]) == (
        f"read_table({str(path)!r}): the table has no rows. Give one with at least one row."
    )


def test_unknown_suffix(tmp_path):
    path = write(tmp_path, "a.doc", "premise")
    assert message_of([path]) == (
        f"read_table({str(path)!r}): the suffix '.doc' is unknown. Give a file that ends in one "
        "of .tsv, .csv, .jsonl, .txt, .conll, .conllu, .tsv.gz, .csv.gz, .jsonl.gz, .txt.gz, "
        ".conll.gz, .conllu.gz, .parquet."
    )


def test_plain_text_has_a_text_in_each_line(tmp_path):
    path = write(tmp_path, "a.txt", "a dog\r\n\n  runs\tfast \n")
    assert read_table([path], ["text"], split="train")["text"] == ["a dog", "runs\tfast"]
    with pytest.raises(DataError, match=r"there is no column 'label'; the columns are \['text'\]"):
        read_table([path], ["text", "label"], split="train")


@pytest.mark.parametrize(
    "source",
    ["train.tsv", "train.txt", "./train", "some/deep/folder", Path("train"), "a b", "x.gz"],
)
def test_missing_file(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    assert message_of([source]) == (
        f"read_table({str(source)!r}): there is no such file. Check the path (seen from "
        f"{str(Path.cwd())!r}), or give a hub data set as 'id', 'id:config' or 'id:config:split'."
    )


@pytest.mark.parametrize("sources", [[], "train.tsv", Path("train.tsv")])
def test_sources_are_a_list(sources):
    assert message_of(sources) == (
        f"read_table({sources!r}, split='train'): give a list of one or more files or hub data "
        "sets."
    )


def test_shared_data_reads(data):
    for path in sorted((data / "nli").glob("s*/*.tsv.gz"))[:4]:
        table = read_table([path], ("premise", "hypothesis", "label"), split="train")
        assert len(table) == gzip.decompress(path.read_bytes()).count(b"\n") - 1


@pytest.fixture(autouse=True)
def _cache_of_datasets_in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
