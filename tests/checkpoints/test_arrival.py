"""The change of a module of somebody else's, when it is imported."""

import importlib
import importlib.util
import pickle
import runpy
import sys
import threading
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

import pytest

from headcount.checkpoints import arrival
from headcount.checkpoints.arrival import when_imported

CLASS = "class Thing:\n    pass\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module that nobody has imported yet, of a name of its own, and gives the name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def written(text: str, name: str = "") -> str:
        name = name or f"arriving_{len(names)}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        names.append(name)
        return name

    yield written
    for name in names:
        sys.modules.pop(name, None)
        arrival._finder().wanted.pop(name, None)
        arrival._finder().waiting.discard(name)


def mark(module) -> None:
    module.Thing.times = getattr(module.Thing, "times", 0) + 1


def test_a_module_is_changed_when_it_is_imported(write):
    name = write(CLASS)
    when_imported(name, "Thing", mark)
    assert name not in sys.modules
    assert importlib.import_module(name).Thing.times == 1


def test_a_module_that_is_there_is_changed_at_once(write):
    name = write(CLASS)
    module = importlib.import_module(name)
    when_imported(name, "Thing", mark)
    assert module.Thing.times == 1


def test_a_module_without_the_name_is_left_alone(write):
    name = write("")
    when_imported(name, "Thing", mark)
    importlib.import_module(name)


def test_a_reloaded_module_is_changed_again(write):
    name = write(CLASS)
    when_imported(name, "Thing", mark)
    module = importlib.import_module(name)
    first = module.Thing
    assert importlib.reload(module) is module
    assert module.Thing is not first
    assert module.Thing.times == 1
    sys.modules.pop(name)
    assert importlib.import_module(name).Thing.times == 1


def test_a_module_whose_code_runs_is_changed_when_it_has_run(write):
    hold = write("now = None\n", "arriving_now")
    name = write(f"import {hold}\n{hold}.now()\n{CLASS}Thing.early = hasattr(Thing, 'times')\n")
    seen = []

    def now():
        when_imported(name, "Thing", mark)
        seen.append(sys.modules[name].__spec__)

    importlib.import_module(hold).now = now
    module = importlib.import_module(name)
    assert (module.Thing.times, module.Thing.early) == (1, False)
    assert seen == [module.__spec__]
    assert type(module.__spec__) is ModuleSpec


def test_a_module_that_fails_half_way_is_changed_the_next_time(write):
    hold = write("now = None\n", "arriving_fails")
    name = write(f"import {hold}\n{hold}.now()\n{CLASS}")

    def now():
        when_imported(name, "Thing", mark)
        raise RuntimeError("half-way")

    importlib.import_module(hold).now = now
    with pytest.raises(RuntimeError, match="half-way"):
        importlib.import_module(name)
    sys.modules[hold].now = lambda: None
    assert importlib.import_module(name).Thing.times == 1


def test_an_import_in_another_thread_is_caught(write):
    hold = write("now = None\n", "arriving_thread")
    name = write(f"import {hold}\n{hold}.now()\n{CLASS}")
    inside, go_on = threading.Event(), threading.Event()

    def now():
        inside.set()
        go_on.wait(20)

    importlib.import_module(hold).now = now
    thread = threading.Thread(target=importlib.import_module, args=(name,))
    thread.start()
    assert inside.wait(20)
    when_imported(name, "Thing", mark)
    assert not hasattr(sys.modules[name], "Thing")
    go_on.set()
    thread.join(20)
    assert sys.modules[name].Thing.times == 1


def test_what_got_past_the_finder_is_changed_at_the_next_import(write, monkeypatch):
    name, other = write(CLASS), write("")
    when_imported(name, "Thing", mark)
    finder = arrival._finder()
    with monkeypatch.context() as patch:  # as in a thread that had asked the finders just before
        patch.setattr(sys, "meta_path", [one for one in sys.meta_path if one is not finder])
        module = importlib.import_module(name)
    assert not hasattr(module.Thing, "times")
    importlib.import_module(other)
    assert module.Thing.times == 1


def test_a_module_and_its_loader_are_as_they_were(write):
    name = write(CLASS)
    when_imported(name, "Thing", mark)
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.loader.get_source(name) == CLASS
    assert found.loader.get_code(name).co_filename == found.origin
    assert found.loader.path == found.origin
    assert type(pickle.loads(pickle.dumps(found.loader))) is SourceFileLoader
    module = importlib.import_module(name)
    for loader in (module.__loader__, module.__spec__.loader):
        assert type(loader) is SourceFileLoader
    assert module.__file__ == module.__spec__.origin == found.origin
    assert module.__cached__
    assert type(pickle.loads(pickle.dumps(module.Thing()))) is module.Thing


def test_a_module_runs_as_a_program(write):
    name = write(f"{CLASS}answer = __name__\n")
    when_imported(name, "Thing", mark)
    assert runpy.run_module(name, run_name="__main__")["answer"] == "__main__"


def test_finders_that_ask_all_finders_go_on_working(write, monkeypatch):
    name = write(CLASS)
    when_imported(name, "Thing", mark)
    asked = []

    class Asking:
        """Asks for the specification anew, as tools that watch imports do."""

        def find_spec(self, fullname, path=None, target=None):
            if fullname != name or fullname in asked:
                return None
            asked.append(fullname)
            return importlib.util.find_spec(fullname)

    for place in (0, 1):
        asked.clear()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "meta_path", [*sys.meta_path])
            sys.meta_path.insert(place, Asking())
            assert importlib.import_module(name).Thing.times == 1
        assert asked == [name]
        sys.modules.pop(name)


def test_a_module_that_is_not_there_is_not_found(write):
    when_imported("arriving_never", "Thing", mark)
    with pytest.raises(ModuleNotFoundError, match="arriving_never"):
        importlib.import_module("arriving_never")
    arrival._finder().wanted.pop("arriving_never")
    arrival._finder().waiting.discard("arriving_never")


def test_there_is_one_finder_whatever_is_imported_again():
    ours = [finder for finder in sys.meta_path if "headcount" in type(finder).__module__]
    again = importlib.import_module("importlib").reload(sys.modules[arrival.__name__])
    assert again._finder() is ours[0]
    assert [f for f in sys.meta_path if "headcount" in type(f).__module__] == ours
    assert PathFinder in sys.meta_path


def test_an_error_of_the_change_is_seen(write):
    name = write(CLASS)
    when_imported(name, "Thing", lambda module: module.missing)
    with pytest.raises(AttributeError, match="missing"):
        importlib.import_module(name)
    assert name not in sys.modules
