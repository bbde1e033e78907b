"""Data files of others: own errors, soon, in little memory."""

import gzip
import json
import random
from pathlib import Path

import pytest

from fuzz.mutate import NO_FILES, Many, bytes_mutation, put_in_place, raw_end, remove
from headcount.tasks import NLI


def as_text(folder: Path, ending: str) -> bytes:
    rows = [("a b", "some a", "entailment"), ("c d", "no d", "contradiction")] * 5
    names = ("premise", "hypothesis", "label")
    if ending == ".jsonl":
        return "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows).encode()
    if ending == ".parquet":
        import datasets

        columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
        datasets.Dataset.from_dict(columns).to_parquet(str(folder / "whole.parquet"))
        return (folder / "whole.parquet").read_bytes()
    between = "," if ending == ".csv" else "\t"
    return "\n".join(between.join(row) for row in [names, *rows]).encode()


@Many
@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl", ".parquet", ".tsv.gz", ".jsonl.gz"])
def test_data_files(tmp_path, ending, share):
    content, choose = as_text(tmp_path, ending.removesuffix(".gz")), random.Random(60)
    ends = []
    path = tmp_path / f"data{ending}"
    read = lambda: NLI().read([path], split="train")  # noqa: E731
    for index in range(round(20 * share)):
        if ending.endswith(".gz"):
            inner = bytes_mutation(content, choose) if index % 2 else content
            other = gzip.compress(inner)
            other = other if index % 2 else bytes_mutation(other, choose)
        else:
            other = bytes_mutation(content, choose)
        path.write_bytes(other)
        end = raw_end(read)
        ends += [f"{index}: {end} <- {other[:100]!r}"] if end else []
    for way in NO_FILES:
        put_in_place(path, way)
        end = raw_end(read)
        ends += [f"{way}: {end}"] if end else []
        remove(path)
    assert ends == []
