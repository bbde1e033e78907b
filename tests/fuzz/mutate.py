"""Mutations of files, from fixed seeds, and the guard under which what comes of them is seen."""

import copy
import json
import math
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import headcount as hc

LIMIT_S = 10
LIMIT_BYTES = 2**30

VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 3, 2.5, 10**7, 10**12, 2**63, 10**30, -(10**9)),
    *("", "3", "x", "head", "../..", "a\0b", "\ud800", "nan", "y" * 10_000),
    *([], {}, [[]], [None], [1, 1], [-1], [10**12], ["a"], {"": {}}, {"head": 1}, {"a": []}),
    *(math.nan, math.inf, [[[[[[[[]]]]]]]], list(range(1000))),
]


Many = pytest.mark.parametrize(
    "share", [pytest.param(0.1, id="some"), pytest.param(1.0, id="all", marks=pytest.mark.slow)]
)
"""Share of the mutations: all of them are slow."""


class Hang(BaseException):
    """It took too long."""


@contextmanager
def guard() -> Iterator[None]:
    """Raises Hang after ten seconds, and lets no more than a gigabyte be taken."""

    def late(number: int, frame: object) -> None:
        raise Hang(f"more than {LIMIT_S} s")

    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = used * resource.getpagesize() + LIMIT_BYTES
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def raw_end(call: Callable[[], object], *, fails: bool = False) -> str:
    """How a call ended, if not well and not in an error of the library's own; else nothing.

    Args:
        call: the call.
        fails: whether it must not end well.
    """
    try:
        with guard():
            call()
        return "no error" if fails else ""
    except hc.PruningError as error:
        return "" if str(error) else "an error without words"
    except (Exception, Hang) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"


def json_mutations(text: str, number: int, seed: int, inside: str = "") -> Iterator[bytes]:
    """A JSON text with something changed in it.

    Args:
        text: the text.
        number: how many.
        seed: of the choice.
        inside: a key of the outermost mapping; what lies below it alone is changed.
    """
    choose = random.Random(seed)
    for index in range(number):
        if index % 4 == 3 and not inside:
            yield bytes_mutation(text.encode(), choose)
            continue
        body = json.loads(text)
        places = list(_places(body[inside] if inside else body))
        box, key = choose.choice(places)
        _change(box, key, choose)
        yield json.dumps(body).encode()


def _change(box: Any, key: Any, choose: random.Random) -> None:
    """Change one entry of a mapping or list."""
    action, value = choose.randrange(6), box[key]
    if action == 0:
        del box[key]
    elif action == 1 and isinstance(box, dict):
        box[choose.choice(["", "x", "0", "head", "a" * 300])] = box.pop(key)
    elif action == 2 and isinstance(box, list):
        box.append(copy.deepcopy(value))
    elif action == 3 and type(value) in (int, float):
        box[key] = choose.choice([-value - 1, value + 1, value * 10**9, str(value)])
    else:
        box[key] = copy.deepcopy(choose.choice(VALUES))


def _places(body: Any) -> Iterator[tuple[Any, Any]]:
    entries = body.items() if isinstance(body, dict) else enumerate(body)
    for key, value in list(entries):
        yield body, key
        if isinstance(value, dict | list):
            yield from _places(value)


def bytes_mutation(content: bytes, choose: random.Random) -> bytes:
    """The bytes with something wrong in them, as a crash or a stranger leaves them."""
    at = choose.randrange(max(len(content), 1))
    text = content.decode("latin-1")
    ways: list[Callable[[], bytes]] = [
        lambda: content[:at],
        lambda: b"",
        lambda: b"\xef\xbb\xbf" + content,
        lambda: text.encode("utf-16"),
        lambda: content[:at] + b"\xff\xfe" + content[at:],
        lambda: content[:at] + bytes([choose.randrange(256)]) + content[at + 1 :],
        lambda: content + content,
        lambda: b"[" * 100_000,
        lambda: b"null",
        lambda: b"[]",
        lambda: b"\0" * 1000,
        lambda: content[:at] + b"9" * 5000 + content[at:],
        lambda: content[at:],
        lambda: content[:at] + content[at + choose.randrange(1, 200) :],
        lambda: bytes(choose.randrange(256) for _ in range(500)),
    ]
    return choose.choice(ways)()


def put_in_place(path: Path, way: str) -> None:
    """Something else than a file, at a place."""
    with suppress(FileNotFoundError):
        path.unlink()
    if way == "folder":
        path.mkdir()
    elif way == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(way)


NO_FILES = ("folder", "pipe", "/dev/zero", "/dev/null", "/proc/self/mem", "itself", "nowhere")
"""What may stand in the place of a file; names are what a link leads to."""


def remove(path: Path) -> None:
    """What ``put_in_place`` put there."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()
