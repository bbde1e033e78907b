"""What makes transformers refuse a configuration that only headcount can build."""

from typing import Any

GUARD = (
    "this model was pruned by headcount, and transformers alone cannot build its shape: "
    "pip install headcount and import headcount before from_pretrained; or, where "
    "modeling_headcount.py lies in the folder, load it with trust_remote_code=True"
)
"""What transformers shows where it meets the configuration of a cut model alone.

The entry says whether it stands alone: an empty ``per_layer_config`` is not the same as none.
"""

PART = "headcount_part"
"""Key of the configuration of a part: what is left of it stands in the mark of the whole."""

PER_LAYER = "per_layer_config"
"""Key of configurations whose keys transformers reads as integers, so that a sentence fails."""


def guarded(written: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a dictionary, with the guard wherever it says that units were cut.

    Example:
        >>> list(guarded({"headcount": {"left": {}}})["per_layer_config"]) == [GUARD]
        True
    """
    given = {
        key: guarded(value) if isinstance(value, dict) and key != "headcount" else value
        for key, value in written.items()
    }
    mark = given.get("headcount")
    cut = given.get(PART) is True or (isinstance(mark, dict) and "left" in mark)
    if cut and GUARD not in given.get(PER_LAYER, {}):
        given[PER_LAYER] = {GUARD: {"alone": PER_LAYER not in given}, **given.get(PER_LAYER, {})}
    return given


def unguarded(written: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a dictionary, without guards.

    Example:
        >>> unguarded(guarded({"headcount": {"left": {}}}))
        {'headcount': {'left': {}}}
    """
    given = {
        key: unguarded(value) if isinstance(value, dict) else value
        for key, value in written.items()
        if key != GUARD
    }
    layers = written.get(PER_LAYER)
    if isinstance(layers, dict) and layers.get(GUARD, {}).get("alone"):
        del given[PER_LAYER]
    return given
