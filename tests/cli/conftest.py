"""What all tests of the command line have in common."""

import pytest


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal in which no message is broken over lines, however long the names of folders are.

    Tests of how wide tables are make a console of their own.
    """
    monkeypatch.setenv("COLUMNS", "1000")
