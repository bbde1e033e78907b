"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import headcount


def examples() -> list[doctest.DocTest]:
    """One case for each docstring with an example."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = [module.name for module in pkgutil.walk_packages(headcount.__path__, "headcount.")]
    readable = [name for name in names if not name.endswith("_numba")]  # numba is optional
    modules = [importlib.import_module(name) for name in ("headcount", *readable)]
    found = {test.name: test for module in modules for test in finder.find(module)}
    return [test for test in found.values() if test.examples]


@pytest.mark.compat
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_example(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    public = {name: getattr(headcount, name) for name in headcount.__all__}
    example.globs = {**public, **example.globs}
    printed: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags)
    failures = runner.run(example, out=printed.append).failed
    assert failures == 0, "\n" + "".join(printed)
