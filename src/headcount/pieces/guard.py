"""The guard: an entry by which transformers refuses a configuration that only headcount can build.

Otherwise transformers would ignore the mark and build the dense shape. Weights that the file does
not have would then be random.
"""

from typing import Any

GUARD = (
    "this model was pruned by headcount, and transformers alone cannot build its shape: "
    "pip install headcount and import headcount before from_pretrained; or, where "
    "modeling_headcount.py lies in the folder, load it with trust_remote_code=True"
)
"""The sentence that transformers shows when it reads the configuration of a cut model by itself."""

PART = "headcount_part"
"""Key of a part's configuration. It says that the mark of the whole records the part's units."""

PER_LAYER = "per_layer_config"
"""transformers' key for settings of single layers. It reads the keys inside as layer numbers, so a
sentence among them is an error, which shows the sentence."""


def guarded(written: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a dictionary, with the guard in every part whose units were cut.

    Example:
        >>> list(guarded({"headcount": {"left": {}}})["per_layer_config"]) == [GUARD]
        True
    """
    # Configurations inside get their own guard. The mark is a dictionary, but no configuration.
    given = {
        key: guarded(value) if isinstance(value, dict) and key != "headcount" else value
        for key, value in written.items()
    }
    mark = given.get("headcount")
    cut = given.get(PART) is True or (isinstance(mark, dict) and "left" in mark)
    # "alone" tells unguarded whether to delete the whole key: none is not the same as an empty one.
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
