"""Bad files for each task on text with labels: one clear error, and nothing is left behind."""

import gzip

import pytest

import headcount as hc
from cases import write_model
from headcount.errors import DataError
from headcount.runs.recipe import Recipe

PAIRS = b"premise\thypothesis\tlabel\na dog\truns\tentailment\na cat\tsleeps\tcontradiction\n"
TEXTS = b"text\tlabel\na dog runs\tgood\na cat sleeps\tbad\n"
TOKENS = b"a\tO\ndog\tB-X\n\na\tO\ncat\tB-X\n"
GOOD = {
    "nli": ("good.tsv", PAIRS),
    "text-classification": ("good.tsv", TEXTS),
    "token-classification": ("good.conll", TOKENS),
}
"""Task -> name and content of a file that it can use."""

TABLES = [
    ("a.tsv", lambda good: b"", "the file is empty"),
    ("a.tsv", lambda good: good.split(b"\n")[0] + b"\n", "has no rows"),
    ("a.tsv", lambda good: good.replace(b"label", b"number"), "label"),
    ("a.tsv", lambda good: good + b"caf\xe9\tx\tgood\n", "line 4: not UTF-8 text"),
    ("a.tsv", lambda good: good + b"alone\n", "line 4 has 1 cells"),
    ("a.tsv", lambda good: good + b"a" * 1_100_000, "is longer than"),
    ("a.csv", lambda good: good.replace(b"\t", b",") + b'"open,x,good\n', "is not CSV"),
    ("a.jsonl", lambda good: b'{"text": "a"\n', "line 1 is not JSON"),
    ("a.jsonl", lambda good: b'["a", "b"]\n', "line 1 is a JSON list"),
    ("a.tsv.gz", lambda good: gzip.compress(good * 9, mtime=0)[:-9], "not a whole gzip file"),
    ("a.parquet", lambda good: b"PAR1 and no more", "not a parquet file"),
    ("a.xlsx", lambda good: good, "the suffix '.xlsx' is unknown"),
    ("nowhere.tsv", lambda good: None, "there is no such file"),
]
SENTENCES = [
    ("a.conll", lambda good: b"", "the file is empty"),
    ("a.conll", lambda good: b"\n\n", "has no rows"),
    ("a.conll", lambda good: good + b"\ndog\n", "line 7 has 1 columns, and there must be 2"),
    ("a.conll", lambda good: good + b"\ndog\t\n", "has an empty token or tag"),
    ("a.conll", lambda good: good + b"\ncaf\xe9\tO\n", "not UTF-8 text"),
    (
        "a.conll",
        lambda good: good + b"\ndog\tNN\tO\ncat\tO\n",
        "line 7 has 3 columns, and there must be 2",
    ),
    ("a.conllu", lambda good: good, "CoNLL-U has ten"),
    ("a.conll.gz", lambda good: gzip.compress(good * 9, mtime=0)[:-9], "not a whole gzip file"),
    ("a.jsonl", lambda good: b'{"tokens": ["a", "b"], "tags": ["O"]}\n', "has 2 tokens and 1 tags"),
    ("a.jsonl", lambda good: b'{"tokens": [{}], "tags": ["O"]}\n', "line 1 has {} as 'tokens'"),
    ("a.parquet", lambda good: b"PAR1 and no more", "not a parquet file"),
    ("nowhere.conll", lambda good: None, "there is no such file"),
]
CASES = [
    (task, name, make, said)
    for task, cases in (
        ("nli", TABLES), ("text-classification", TABLES), ("token-classification", SENTENCES)
    )
    for name, make, said in cases
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "model")


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{task}-{i}" for i, (task, *_) in enumerate(CASES)]
)
def test_a_bad_file(number, model, tmp_path):
    task, name, make, said = CASES[number]
    good_name, content = GOOD[task]
    good, bad = tmp_path / good_name, tmp_path / "bad" / name
    good.write_bytes(content)
    bad.parent.mkdir()
    made = make(content)
    if made is not None:
        bad.write_bytes(made)
    before = sorted(tmp_path.rglob("*"))
    # Training and evaluation data are read by the same functions.
    train, evaluation = (bad, good) if number % 2 else (good, bad)
    with pytest.raises(DataError) as caught:
        hc.prune(model, task=task, train=[train], eval=[evaluation], budget=hc.Budget(heads=4),
                 output=tmp_path / "out",
                 options=hc.Options(recipe=Recipe(max_length=16), latency_length=8))  # fmt: skip
    message = str(caught.value)
    assert said in message
    assert name in message
    assert len(message) < 1000
    assert sorted(tmp_path.rglob("*")) == before
