"""Check files of tensors before they are loaded; of safetensors files, only the header is read."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from headcount.door.files import check_regular
from headcount.door.shape import Misfit, Said

Header = dict[str, tuple[tuple[int, ...], str]]
"""Name of a tensor -> (shape, dtype as safetensors writes it)."""

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def header(path: Path) -> Header:
    """The names, shapes and dtypes in a safetensors file.

    Raises:
        Misfit: the file is a link, truncated, or not a safetensors file.
        OSError: the file does not exist.
    """
    check_regular(path, links=False)
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {name: (tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
    except SafetensorError as error:
        raise Misfit(Said(f"damaged ({error})"), "a whole safetensors file") from None


def header_of(tensors: Mapping[str, Tensor]) -> Header:
    """The header that a safetensors file of these tensors has.

    Example:
        >>> header_of({"a": torch.zeros(2, 3)})
        {'a': ((2, 3), 'F32')}
    """
    return {name: (tuple(v.shape), _TYPES.get(v.dtype, "")) for name, v in tensors.items()}


def check_header(found: Header, wanted: Header, *, may_lack: Collection[str] = ()) -> None:
    """Refuse a file whose tensors have other names, shapes or dtypes than expected.

    Args:
        found: the header of the file.
        wanted: the header of the tensors to be loaded into.
        may_lack: names that the file need not have.

    Raises:
        Misfit: a tensor differs; the message names the first one.

    Example:
        >>> check_header({"a": ((2,), "F32")}, {"a": ((3,), "F32")})
        Traceback (most recent call last):
            ...
        headcount.door.shape.Misfit: a is F32 of shape (2,), not F32 of shape (3,)
    """
    for name, want in wanted.items():
        have = found.get(name)
        if have is None and name not in may_lack:
            raise Misfit(Said("not there"), _in_words(want), place=name)
        if have is not None and (have[0] != want[0] or want[1] not in ("", have[1])):
            raise Misfit(Said(_in_words(have)), _in_words(want), place=name)
    # A tensor too many is a sign of another run's file, too.
    more = next((name for name in found if name not in wanted), None)
    if more is not None:
        raise Misfit(Said(_in_words(found[more])), "a tensor of this run", place=more)


def _in_words(one: tuple[tuple[int, ...], str]) -> str:
    return f"{one[1] or 'a tensor'} of shape {one[0]}"


def load_values(path: Path) -> Any:
    """Load tensors and plain values that ``torch.save`` wrote. No code in the file is run.

    Raises:
        Misfit: the file is a link, truncated, or holds something else.
        OSError: the file does not exist.
    """
    check_regular(path, links=False)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file may lead to any error
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Misfit(Said(f"damaged ({said[:120]})"), "a whole file of torch.save") from None
