"""What the source of a forward method says that no attribute does."""

import ast
import inspect
import textwrap
from functools import cache

from torch import nn


@cache
def width_off_input(kind: type[nn.Module]) -> str:
    """The variable by which a forward method gives what it computes the width of its input.

    Attention that does so cannot have fewer heads than the input is wide, unless it is told.

    Args:
        kind: the class of a module.

    Returns:
        The variable's name; empty if there is none, or no source to look into.

    Example:
        >>> class Plain(nn.Module):
        ...     def forward(self, x):
        ...         return x
        >>> width_off_input(Plain)
        ''
    """
    try:
        source = inspect.getsource(inspect.unwrap(kind.forward))
        method = ast.parse(textwrap.dedent(source)).body[0]
    except (OSError, TypeError, SyntaxError):
        return ""
    if not isinstance(method, ast.FunctionDef) or len(method.args.args) < 2:
        return ""
    widths = _widths(method, method.args.args[1].arg)
    used = (name for node in ast.walk(method) for name in _shaped_by(node) if name in widths)
    return next(used, "")


def _widths(method: ast.FunctionDef, given: str) -> set[str]:
    """Variables that are the last of an argument's sizes: ``batch, length, width = x.shape``."""
    found = set()
    for node in ast.walk(method):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Tuple):
            continue
        last = node.targets[0].elts[-1]
        if ast.unparse(node.value) in (f"{given}.shape", f"{given}.size()"):
            found |= {last.id} if isinstance(last, ast.Name) else set()
    return found


def _shaped_by(node: ast.AST) -> list[str]:
    """The variable that is the last size, whole or divided, of a call of ``view``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
        return []
    last = node.args[-1]
    last = last.left if isinstance(last, ast.BinOp) else last
    shapes = node.func.attr in ("view", "reshape")
    return [last.id] if shapes and isinstance(last, ast.Name) else []
