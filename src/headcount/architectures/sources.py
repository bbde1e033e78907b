"""Look into the source of a forward method for what no attribute says."""

import ast
import inspect
import textwrap
from functools import cache

from torch import nn


@cache
def width_off_input(kind: type[nn.Module]) -> str:
    """The variable that a forward method sets to its input's width and uses to reshape.

    An example is ``b, t, width = x.shape`` and later ``context.view(b, t, width)``. Such attention
    fails with fewer heads, since the context is then narrower than the input.

    Args:
        kind: the class of a module.

    Returns:
        The variable's name; empty if there is none, or if the source cannot be read.

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
    """Variables set to the last size of an argument: ``width`` in ``b, t, width = x.shape``."""
    found = set()
    for node in ast.walk(method):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Tuple):
            continue
        last = node.targets[0].elts[-1]
        if ast.unparse(node.value) in (f"{given}.shape", f"{given}.size()"):
            found |= {last.id} if isinstance(last, ast.Name) else set()
    return found


def _shaped_by(node: ast.AST) -> list[str]:
    """The variable in the last argument of ``view`` or ``reshape``: ``width``, ``width // 2``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
        return []
    last = node.args[-1]
    last = last.left if isinstance(last, ast.BinOp) else last
    shapes = node.func.attr in ("view", "reshape")
    return [last.id] if shapes and isinstance(last, ast.Name) else []
