"""Write the code of a standalone folder, by which users without headcount load a cut model."""

import json
import pprint
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from headcount import pieces
from headcount.architectures.stock import CODE, STOCK, stock_class
from headcount.checkpoints.autos import auto_classes
from headcount.checkpoints.dense import plan_again

CODE_FILE = f"{CODE}.py"

_HEADER = '''\
"""A pruned {stock}: transformers' own class, made smaller before its weights are loaded.

Written by headcount. Load it with ``trust_remote_code=True``.
"""
'''

_CONFIG = '''

class Headcount{stock}({stock}):
    """``{stock}`` that says what was cut."""

    {mark} = {stock}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **unguarded(kwargs))

    def to_dict(self):
        return guarded(super().to_dict())
'''

_CLASS = '''

class Headcount{stock}({stock}):
    """``{stock}`` with the shape that ``{structure}`` describes."""

    config_class = Headcount{config}
    {mark} = {stock}

    def post_init(self):
        super().post_init()
        with torch.device("cpu"):
            rebuild(self, {structure})
'''


def write_code(model: PreTrainedModel, folder: Path) -> None:
    """Write the code that builds a cut model, and enter it in the configuration (``auto_map``).

    The file has the source of ``pieces``, the structure as literals, and a subclass of the stock
    class that rebuilds itself before weights are loaded. For a model with a task head there is one
    more, for the base model alone, which ``AutoModel`` loads.

    Args:
        model: a cut model that is saved to ``folder`` already.
        folder: the folder.
    """
    _, planned = plan_again(model)
    structure = planned.structure
    stock, config = stock_class(type(model)), stock_class(type(model.config))
    # AutoModel loads a base model from a folder with a task head, so its class is needed, too.
    base = stock_class(type(model.base_model)) if model.base_model is not model else None
    names = {"config": config.__name__, "mark": STOCK}
    text = [_HEADER.format(stock=stock.__name__), pieces.source()]
    text += [_import(cls) for cls in (config, stock, base) if cls is not None]
    text.append(_CONFIG.format(stock=config.__name__, mark=STOCK))
    text.append(_literal("STRUCTURE", structure))
    text.append(_CLASS.format(stock=stock.__name__, structure="STRUCTURE", **names))
    place = CODE_FILE.removesuffix(".py")
    autos = auto_classes(model) or ("AutoModel",)
    auto_map = dict.fromkeys(autos, f"{place}.Headcount{stock.__name__}")
    auto_map["AutoConfig"] = f"{place}.Headcount{config.__name__}"
    if base is not None:
        prefix = f"{model.base_model_prefix}."
        text.append(_literal("BASE_STRUCTURE", _inside(structure, prefix)))
        text.append(_CLASS.format(stock=base.__name__, structure="BASE_STRUCTURE", **names))
        auto_map["AutoModel"] = f"{place}.Headcount{base.__name__}"
    (folder / CODE_FILE).write_text("\n".join(text), encoding="utf-8")
    _name_in_config(folder / "config.json", auto_map)


def _import(cls: type) -> str:
    return f"\nfrom {cls.__module__} import {cls.__name__}  # noqa: E402"


def _literal(name: str, value: dict[str, Any]) -> str:
    return f"\n\n{name} = {pprint.pformat(value, width=100, sort_dicts=True)}"


def _inside(structure: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The part of a structure inside one module, with names relative to it."""
    found: dict[str, Any] = {}
    for key, value in structure.items():
        if isinstance(value, list):
            found[key] = [name.removeprefix(prefix) for name in value if name.startswith(prefix)]
        else:
            found[key] = {
                name.removeprefix(prefix): entry
                for name, entry in value.items()
                if name.startswith(prefix)
            }
    return found


def _name_in_config(path: Path, auto_map: dict[str, str]) -> None:
    body = json.loads(path.read_text(encoding="utf-8"))
    body["auto_map"] = auto_map
    path.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")
