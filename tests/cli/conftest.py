"""What all tests of the command line have in common."""

import pytest

from cases import write_model, write_pairs


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal in which no message is broken over lines, however long the names of folders are.

    Tests of how wide tables are make a console of their own.
    """
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A tiny model, training data and evaluation data."""
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model": write_model(folder / "model"),
        "train": write_pairs(folder / "train.tsv", 24),
        "eval": write_pairs(folder / "eval.tsv", 12, seed=2),
    }
