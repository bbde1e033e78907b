"""Change a module of another package as soon as it is imported, without importing it.

There are three cases:

- The module is imported already: it is changed at once.
- It is not imported: a finder stands first on ``sys.meta_path``. It lets the other finders find the
  module and wraps the loader that they return, so that the change follows the module's own code.
- It is being imported at this moment: it is too late for a finder. Its specification then reports
  the end of the import.

The finder stays on the list, for two reasons. If it were taken off while another thread goes
through the list, that thread would skip a finder. And a reloaded module has new classes, which need
the change again.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Change = Callable[[ModuleType], None]


def when_imported(name: str, holds: str, change: Change) -> None:
    """Change a module now if it is imported, else when it is; and again after each reload.

    Args:
        name: the full name of the module.
        holds: a name in the module that the change needs. Until it is there, nothing is changed.
        change: called with the module; after a reload it is called again.

    Example:
        >>> seen = []
        >>> when_imported("json", "loads", lambda module: seen.append(module.__name__))
        >>> seen
        ['json']
    """
    finder = _finder()
    finder.wanted[name] = (holds, change)
    finder.waiting.add(name)
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if _is_running(spec) and type(spec) is ModuleSpec:
        spec.__class__ = _Begun
    finder.look(name)  # last: in another thread, the import may have ended just now


class _Finder(MetaPathFinder):
    """The first finder on the list. It finds modules only by asking the others."""

    def __init__(self) -> None:
        self.wanted: dict[str, tuple[str, Change]] = {}
        self.waiting: set[str] = set()
        """The modules that have not been changed yet."""
        self._asking = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """For a module to be changed, the specification that the finders after this one return."""
        for name in tuple(self.waiting):  # another thread may have imported one past this finder
            self.look(name)
        asked: set[str] = vars(self._asking).setdefault("names", set())
        if fullname not in self.wanted or fullname in asked:
            return None
        asked.add(fullname)  # other finders may ask all finders, and so this one again
        try:
            spec = self._found_behind(fullname, path, target)
        finally:
            asked.discard(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Changing(spec.loader, self)
        return spec

    def _found_behind(self, *asked: Any) -> ModuleSpec | None:
        finders = list(sys.meta_path)
        behind = finders[finders.index(self) + 1 :] if self in finders else finders
        ways = (getattr(finder, "find_spec", None) for finder in behind)
        found = (find(*asked) for find in ways if find is not None)
        return next((spec for spec in found if spec is not None), None)

    def look(self, name: str) -> None:
        """Change a module if it is imported and its code has run to the end."""
        module = sys.modules.get(name)
        if module is not None and not _is_running(module.__spec__):
            self.change(module, name)

    def change(self, module: ModuleType, name: str) -> None:
        """Change a module if it has the name that the change needs."""
        holds, change = self.wanted[name]
        if holds in vars(module):
            self.waiting.discard(name)  # first, since the change may import, and so come here
            change(module)

    def invalidate_caches(self) -> None:
        """Does nothing: there is no cache."""


def _is_running(spec: object) -> bool:
    """Whether a module's code is running, according to Python's import system."""
    return bool(getattr(spec, "_initializing", False))


def _finder() -> _Finder:
    """The finder on ``sys.meta_path``; one from an earlier import of this module counts, too."""
    # Compared by name: if this module was imported anew, the earlier finder is of another class.
    for finder in sys.meta_path:
        kind = type(finder)
        if (kind.__module__, kind.__qualname__) == (__name__, _Finder.__qualname__):
            return finder  # pyright: ignore[reportReturnType]
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    return finder


class _Changing(Loader):
    """A loader that changes the module after loading it.

    Before the module's code runs, it puts the stock loader back in its place.
    """

    def __init__(self, stock: Loader, finder: _Finder) -> None:
        self._stock, self._finder = stock, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as the stock loader does."""
        return self._stock.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code, then change the module."""
        spec, values = vars(module).get("__spec__"), vars(module)
        if spec is not None and spec.loader is self:
            spec.loader = self._stock
        if values.get("__loader__") is self:
            values["__loader__"] = self._stock
        self._stock.exec_module(module)
        self._finder.change(module, module.__name__)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_stock"], name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._stock,)


def _itself(loader: Loader) -> Loader:
    return loader


class _Begun(ModuleSpec):
    """The specification of a module whose code is running: it notices when the code has ended."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "_initializing" and not value:
            setattr(self, "__class__", ModuleSpec)
            _finder().look(self.name)
