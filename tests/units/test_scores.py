"""The scores of many units, in a file beside their decision."""

import hashlib
import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import headcount as hc
from headcount.units import decision as module
from headcount.units.decision import SiteDecision
from headcount.units.scores import MOST_IN_TEXT

ODD = [-0.0, 0.0, 5e-324, -2.2250738585072014e-308, 1.7976931348623157e308, 0.1, 1 / 3]
Finite = st.floats(allow_nan=False, allow_infinity=False)


def decision_of(*parts, kept=()):
    """A decision about sites with these scores."""
    sites = [
        SiteDecision(
            module=f"layer.{i}",
            kind="neuron",
            layer=i,
            stack="encoder",
            keep=tuple(j in kept for j in range(len(scores))),
            scores=tuple(scores),
            branch="ffn",
        )
        for i, scores in enumerate(parts)
    ]
    return hc.Decision(sites=tuple(sites), provenance={"method": {"name": "given"}})


def many(first=(), *, rest=MOST_IN_TEXT):
    return decision_of([*first], [float(i) for i in range(rest + 1)], [], kept={0, 3})


def bits(decision):
    """Scores as they lie in memory: -0.0 is not 0.0 there."""
    return [struct.pack(f"{len(site.scores)}d", *site.scores) for site in decision.sites]


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture
def file(tmp_path):
    """A decision about many units."""
    many(ODD).save(tmp_path / "decision.json")
    return tmp_path / "decision.json"


def scores_file(file):
    return file.with_name(json.loads(file.read_text(encoding="utf-8"))["scores"]["file"])


@given(st.lists(Finite, max_size=20), st.booleans())
def test_every_score_comes_back_bit_for_bit(scores, big):
    decision = many([*ODD, *scores]) if big else decision_of([*ODD, *scores], kept={1})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "decision.json"
        decision.save(path)
        again = hc.Decision.load(path)
        assert len(names(folder)) == 1 + big
    assert again == decision
    assert bits(again) == bits(decision)
    assert bits(hc.Decision.from_json(decision.to_json())) == bits(decision)


@pytest.mark.parametrize("num", [0, 1, MOST_IN_TEXT, MOST_IN_TEXT + 1])
def test_only_many_scores_stand_beside(tmp_path, num):
    decision_of([0.5] * num).save(tmp_path / "decision.json")
    assert len(names(tmp_path)) == 1 + (num > MOST_IN_TEXT)
    assert hc.Decision.load(tmp_path / "decision.json").num_units == num


def test_the_file_has_a_name_that_no_loader_takes_for_weights_and_any_reader_can_read(file):
    assert scores_file(file).name.startswith("decision.json.")
    assert scores_file(file).suffix == ".scores"
    vector = load_file(scores_file(file))["scores"]
    assert vector.dtype == torch.float64
    assert vector[: len(ODD)].tolist() == ODD
    assert "scores" not in json.loads(file.read_text(encoding="utf-8"))["sites"][0]


@pytest.mark.parametrize("rest", [3, MOST_IN_TEXT])
@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_scores_that_are_not_finite_are_not_saved(tmp_path, rest, bad):
    with pytest.raises(hc.DecisionError, match=r"Decision\.save: the scores of units \[0\] of"):
        many([bad], rest=rest).save(tmp_path / "decision.json")
    assert names(tmp_path) == []


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def swap(path):
    other = path.parent / "other"
    other.mkdir()
    many([*reversed(ODD)]).save(other / "decision.json")
    shutil.copy(scores_file(other / "decision.json"), path)


DAMAGE = {
    "missing": (lambda path: path.unlink(), "which is not there"),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:-8]),
        "damaged or belongs to another",
    ),
    "empty": (lambda path: path.write_bytes(b""), "damaged or belongs to another"),
    "flipped": (flip, "damaged or belongs to another"),
    "swapped": (swap, "damaged or belongs to another"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read: it is a folder"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_is_not_that_of_the_decision_is_refused(file, name):
    damage, message = DAMAGE[name]
    damage(scores_file(file))
    with pytest.raises(hc.DecisionError, match=message) as error:
        hc.Decision.load(file)
    assert str(error.value).startswith(f"Decision.load({str(file)!r}): its scores are in 'decision")
    assert "copy both from where the decision was saved" in str(error.value)


def told(file, /, **changes):
    body = json.loads(file.read_text(encoding="utf-8"))
    body["scores"].update(changes)
    file.write_text(json.dumps(body), encoding="utf-8")


def forged(file, **tensors):
    """A file of other contents, and the decision that names it."""
    save_file(tensors, scores_file(file))
    content = scores_file(file).read_bytes()
    told(file, sha256=hashlib.sha256(content).hexdigest())


NUM = MOST_IN_TEXT + 1 + len(ODD)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"scores": torch.zeros(NUM)}, f"has no {NUM} numbers of 64 bits"),
        ({"scores": torch.zeros(NUM - 1, dtype=torch.float64)}, f"has no {NUM} numbers"),
        ({"score": torch.zeros(NUM, dtype=torch.float64)}, f"has no {NUM} numbers"),
        ({"scores": torch.full((NUM,), torch.inf, dtype=torch.float64)}, "are not finite"),
    ],
)
def test_a_file_of_something_else_is_refused_even_where_its_digest_fits(file, tensors, message):
    forged(file, **tensors)
    with pytest.raises(hc.DecisionError, match=message):
        hc.Decision.load(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "../decision.json.0123456789abcdef.scores"}, "not the name of a file of scores"),
        ({"file": "/etc/passwd"}, "not the name of a file of scores"),
        ({"sha256": "0"}, "not a SHA-256"),
        ({"num": 10**15}, f"its sites have {NUM} units and {10**15} scores"),
    ],
)
def test_a_damaged_word_about_the_file_is_refused(file, changes, message):
    told(file, **changes)
    with pytest.raises(hc.DecisionError, match=message):
        hc.Decision.load(file)


def test_sites_with_scores_both_ways_or_neither_are_refused(file):
    body = json.loads(file.read_text(encoding="utf-8"))
    body["sites"][2]["scores"] = []
    file.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(hc.DecisionError, match=r"sites\[2\] .*with its scores in a file alone"):
        hc.Decision.load(file)
    body = json.loads(decision_of([1.0]).to_json())
    del body["sites"][0]["scores"]
    with pytest.raises(hc.DecisionError, match=r"sites\[0\] .*a mapping with the key 'scores'"):
        hc.Decision.from_json(json.dumps(body))


def test_the_text_alone_says_where_its_scores_are(file):
    with pytest.raises(hc.DecisionError, match=r"in the file 'decision\.json\..*Decision\.load"):
        hc.Decision.from_json(file.read_text(encoding="utf-8"))


def test_a_decision_that_is_replaced_takes_its_scores_along(file):
    old = scores_file(file)
    many([1.0]).save(file)
    assert names(file.parent) == sorted(["decision.json", scores_file(file).name])
    assert scores_file(file) != old
    few = decision_of([1.0, 2.0])
    few.save(file)
    assert names(file.parent) == ["decision.json"]
    assert hc.Decision.load(file) == few


def test_a_file_of_scores_that_somebody_changed_stays(file):
    flip(scores_file(file))
    changed = scores_file(file)
    many([1.0]).save(file)
    assert changed.is_file()


def test_saved_twice_it_is_the_same(file):
    before = {name: (file.parent / name).read_bytes() for name in names(file.parent)}
    many(ODD).save(file)
    assert before == {name: (file.parent / name).read_bytes() for name in names(file.parent)}


@pytest.mark.parametrize("step", ["write_scores", "write_text", "drop_scores"])
def test_killed_at_any_step_there_is_a_whole_decision(file, monkeypatch, step):
    old, new = many(ODD), many([1.0])

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, step, killed)
    with pytest.raises(KeyboardInterrupt):
        new.save(file)
    assert hc.Decision.load(file) == (new if step == "drop_scores" else old)


def test_two_decisions_in_one_folder_do_not_share_a_file(tmp_path):
    for name in ("a.json", "a.txt"):
        many(ODD).save(tmp_path / name)
    many([1.0]).save(tmp_path / "a.json")
    assert hc.Decision.load(tmp_path / "a.txt") == many(ODD)


def test_whole_numbers_come_back_as_the_numbers_that_they_are(tmp_path):
    (site,) = decision_of([0.0] * (MOST_IN_TEXT + 1)).sites
    whole = hc.Decision(sites=(replace(site, scores=tuple(range(MOST_IN_TEXT + 1))),))
    whole.save(tmp_path / "decision.json")
    assert hc.Decision.load(tmp_path / "decision.json") == whole
