"""Code beside the weights, for users who do not have headcount."""

import inspect
import json
import pprint
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from headcount import pieces
from headcount.architectures.config import MARK
from headcount.checkpoints.dense import plan_again

CODE_FILE = "modeling_headcount.py"

_HEADER = '''\
"""A pruned {stock}: transformers' own class, made smaller before its weights are loaded.

Written by headcount. Load it with ``trust_remote_code=True``.
"""
'''

_CLASS = '''

class Headcount{stock}({stock}):
    """``{stock}`` with the shape that ``{structure}`` describes."""

    def __init__(self, config, *args, **kwargs):
        mark = config.__dict__.pop("{mark}", None)
        super().__init__(config, *args, **kwargs)
        if mark is not None:
            setattr(self.config, "{mark}", mark)

    def post_init(self):
        super().post_init()
        with torch.device("cpu"):
            rebuild(self, {structure})
'''


def write_code(model: PreTrainedModel, folder: Path, auto_class: str) -> None:
    """Write the code that builds a cut model, and say in the configuration where it is.

    Args:
        model: a cut model, saved to ``folder`` already.
        folder: where it is saved.
        auto_class: name of transformers' Auto class that loads it.
    """
    _, planned = plan_again(model)
    structure = planned.structure
    stock = type(model)
    base = type(model.base_model) if model.base_model is not model else None
    text = [_HEADER.format(stock=stock.__name__), _source_of_pieces()]
    text += [_import(cls) for cls in (stock, base) if cls is not None]
    text.append(_literal("STRUCTURE", structure))
    text.append(_CLASS.format(stock=stock.__name__, structure="STRUCTURE", mark=MARK))
    auto_map = {auto_class: f"modeling_headcount.Headcount{stock.__name__}"}
    if base is not None:
        prefix = f"{model.base_model_prefix}."
        text.append(_literal("BASE_STRUCTURE", _inside(structure, prefix)))
        text.append(_CLASS.format(stock=base.__name__, structure="BASE_STRUCTURE", mark=MARK))
        auto_map["AutoModel"] = f"modeling_headcount.Headcount{base.__name__}"
    (folder / CODE_FILE).write_text("\n".join(text), encoding="utf-8")
    _name_in_config(folder / "config.json", auto_map)


def _source_of_pieces() -> str:
    """The source of ``headcount.pieces`` without its docstring."""
    source = inspect.getsource(pieces)
    return source.partition('"""')[2].partition('"""')[2].strip() + "\n"


def _import(cls: type) -> str:
    return f"\nfrom {cls.__module__} import {cls.__name__}  # noqa: E402"


def _literal(name: str, value: dict[str, Any]) -> str:
    return f"\n\n{name} = {pprint.pformat(value, width=100, sort_dicts=True)}"


def _inside(structure: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The part of a structure below a module, with names seen from it."""
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
    _drop(body, "per_layer_config")
    path.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _drop(body: Any, key: str) -> None:
    """Remove a key that transformers without headcount would stumble over."""
    if isinstance(body, dict):
        body.pop(key, None)
        for value in body.values():
            _drop(value, key)
