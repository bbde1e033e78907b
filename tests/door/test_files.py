"""Files of others: bounded, whole, and of the shape they should have."""

import json
import os
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

import headcount as hc
from headcount.door import files
from headcount.door.files import parse_json, parse_yaml, read_json, read_text
from headcount.door.shape import Between, Count, Finite, Misfit, fit, short
from headcount.units.latency import Curve


class Entry(TypedDict):
    name: str
    counts: tuple[int, ...]
    share: NotRequired[Annotated[float, Between(0, 1)] | None]


GOOD = {"name": "a", "counts": [1, 2], "share": 0.5}


@pytest.mark.parametrize(
    ("value", "wanted", "message"),
    [
        ({**GOOD, "name": 3}, Entry, "name is 3, not a text"),
        ({**GOOD, "counts": [1, "2"]}, Entry, "counts[1] is '2', not a whole number"),
        ({**GOOD, "counts": [1, True]}, Entry, "counts[1] is True, not a whole number"),
        ({**GOOD, "counts": "12"}, Entry, "counts is '12', not a list"),
        ({**GOOD, "share": 1.5}, Entry, "share is 1.5, not a number from 0 to 1"),
        ({**GOOD, "share": [0]}, Entry, "share is [0], not a number or None"),
        ({"name": "a"}, Entry, "the keys 'name', not a mapping with the key 'counts'"),
        ([1], Entry, "it is [1], not a mapping"),
        ({"a": {"b": -1}}, dict[str, dict[str, Count]], "a.b is -1, not a number of 0 or more"),
        ({"a b": 2**63}, dict[str, Count], "['a b'] is 9223372036854775808, not a number of 0"),
        ({"a": float("nan")}, dict[str, Finite], "a is nan, not a finite number"),
        (3, Literal[1, 2], "it is 3, not 1 or 2"),
        (True, Literal[1, 2], "it is True, not 1 or 2"),
        ([1, 2, 3], tuple[int, int], "it is (1, 2, 3), not a list of 2"),
        ({"kind": "head", "more": 1}, Curve, "it is 'more', not one of its keys"),
        ({"kind": "head"}, Curve, "the keys 'kind', not a mapping with the key 'modules'"),
    ],
)
def test_a_value_of_another_shape_is_named_with_its_place(value, wanted, message):
    with pytest.raises(Misfit) as problem:
        fit(value, wanted, plain=True)
    assert message in str(problem.value)


def test_plain_values_become_what_they_stand_for():
    plain = {"kind": "head", "modules": ["a"], "counts": [0, 4], "costs_ns": [0, 8]}
    curve = Curve(kind="head", modules=("a",), counts=(0, 4), costs_ns=(0, 8))
    assert fit([plain], list[Curve], plain=True) == [curve]
    assert fit({**GOOD, "later": 1}, Entry, plain=True)["counts"] == (1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON (line 1: Expecting value)"),
        ('{"a": 1', "no JSON (line 1"),
        ('{"a": NaN}', "a text with NaN, not finite numbers"),
        ('{"a": -Infinity}', "a text with -Infinity"),
        ('{"a": 1e999}', "a text with 1e999"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ("\ufeff{}", "no JSON"),
        ("[" * 100_000, "nested too deep"),
        ("[" * 60 + "]" * 60, "nested too deep"),
        ("[" * 500_001, "more than 500000 lists"),
        ("9" * 5000, "a number of 5000 digits"),
        (r'"\ud800"', "half a character"),
        (None, "it is None, not a text"),
    ],
)
def test_a_text_that_is_no_json_says_why(text, message):
    with pytest.raises(Misfit) as problem:
        parse_json(text, Any)
    assert message in str(problem.value)


BOMB = "\n".join(["a0: &a0 [1,1]", *(f"a{i}: &a{i} [*a{i - 1},*a{i - 1}]" for i in range(1, 40))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "an alias (*a0) in line 2"),
        ("a: &x [*x]", "an alias"),
        ("a: 1\na: 2", "the key 'a' twice"),
        ("[" * 100_000, "nested too deep"),
        ("a: [1", "no YAML ("),
        ("a: 2026-99-99", "no YAML ("),
        ("!!python/object/apply:os.system [ls]", "no YAML ("),
        ("\x00", "no YAML ("),
        ("- a", "it is ['a'], not a mapping"),
        ("a: {b: 1}", "a is {'b': 1}, not a whole number or a list"),
    ],
)
def test_a_text_that_is_no_yaml_says_why(text, message):
    with pytest.raises(Misfit) as problem:
        parse_yaml(text, dict[str, int | list[int]])
    assert message in str(problem.value)


def test_a_file_is_read_up_to_a_limit(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" + "1," * 100 + "1]", encoding="utf-8")
    assert len(parse_json(read_text(path), list[int])) == 101
    with pytest.raises(hc.CheckpointError, match=r"load\(.*larger than 20 bytes.*Give another\."):
        read_json(path, list[int], call="load", give="Give another.", limit=20)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"ok\n\xff")
    places = {
        tmp_path / "pipe": "a pipe, not a regular file",
        tmp_path: "a folder, not a regular file",
        "/dev/zero": "a device, not a regular file",
        tmp_path / "latin": "not UTF-8 in line 2",
        tmp_path / "none": "there is no such file",
        tmp_path / "latin" / "below": "Not a directory",
        tmp_path / ("n" * 300): "File name too long",
    }
    for path, message in places.items():
        with pytest.raises(hc.CheckpointError, match=message):
            read_json(path, Any, call="load", give="Give another.")


def test_a_link_that_must_not_be_there_is_refused(tmp_path):
    (tmp_path / "real").write_text("1", encoding="utf-8")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "empty").touch()
    files.check_regular(tmp_path / "link")
    with pytest.raises(Misfit, match="a link, not a regular file"):
        files.check_regular(tmp_path / "link", links=False)
    with pytest.raises(Misfit, match="it is empty"):
        files.check_regular(tmp_path / "empty")


def test_a_message_is_short():
    for value in ("a" * 10**6, [1] * 10**6, 10**5000, {"a": ["b" * 10**6]}, json, b"\xff" * 99):
        assert len(short(value)) < 80


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "+1.e-4", "1.0e-4", "0.0001", ".1e-3"])
def test_yaml_reads_a_number_with_an_exponent_as_a_number(text):
    assert parse_yaml(f"rate: {text}", dict[str, float]) == {"rate": 1e-4}
    assert parse_yaml("name: 1e-4x", dict[str, str]) == {"name": "1e-4x"}
