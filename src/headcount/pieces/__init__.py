"""The modules and classes that a cut model needs in addition to the stock classes.

These files import nothing but torch. For a standalone folder, ``headcount.checkpoints`` writes
their source beside the weights, one file after the other, so that the model loads where headcount
is not installed.
"""

import inspect

from headcount.pieces import guard, modules, structure, wrappers
from headcount.pieces.guard import GUARD, PART, PER_LAYER, guarded, unguarded
from headcount.pieces.modules import BiasOnly, Overridden, WithoutWeight, Zeros
from headcount.pieces.structure import rebuild
from headcount.pieces.wrappers import WRAPPERS

__all__ = [
    "GUARD",
    "PART",
    "PER_LAYER",
    "WRAPPERS",
    "BiasOnly",
    "Overridden",
    "WithoutWeight",
    "Zeros",
    "guarded",
    "rebuild",
    "source",
    "unguarded",
]


def source() -> str:
    """The source of all pieces as one file, without file docstrings and imports of each other.

    Example:
        >>> "headcount.pieces" in source()
        False
    """
    # In this order each file uses only names of those before it.
    files = [inspect.getsource(file) for file in (modules, wrappers, structure, guard)]
    bodies = [text.partition('"""')[2].partition('"""')[2] for text in files]
    lines = "\n".join(bodies).splitlines()
    return "\n".join(x for x in lines if not x.startswith("from headcount.pieces")).strip() + "\n"
