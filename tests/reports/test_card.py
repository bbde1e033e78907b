"""The model card: says how to load the model, and no number that was not measured."""

import ast
import dataclasses
import json
import re

import pytest
import yaml

from headcount.reports.card import load_instructions, model_card
from headcount.reports.table import markdown

PLAIN = {
    "name": "tiny",
    "decision": None,
    "rung": "stock",
    "auto_class": "AutoModel",
    "pipeline_task": None,
    "report": None,
    "figure": None,
}


RUNGS = ("import", "stock", "standalone", "padded")
"""How a saved folder loads."""


def numbers(text: str) -> set[str]:
    """Numbers with a point or of two digits and more; those in words and versions too."""
    return {n for n in re.findall(r"\d+(?:\.\d+)*", text) if len(n) > 1}


def front_matter(card: str) -> dict:
    _, matter, body = card.split("---\n", 2)
    assert body.startswith("\n# ")
    return yaml.safe_load(matter)


def test_front_matter():
    assert front_matter(model_card(**PLAIN)) == {
        "library_name": "transformers",
        "tags": ["headcount", "pruned"],
    }
    card = model_card(**PLAIN | {"pipeline_task": "text-classification"})
    assert front_matter(card)["pipeline_tag"] == "text-classification"


def test_an_uneven_model_needs_headcount():
    card = model_card(**PLAIN | {"rung": "import"})
    assert "pip install headcount" in card
    assert "`import headcount` before `from_pretrained`" in card
    assert "without it transformers refuses to load" in card
    assert "import headcount  #" in card


def test_a_uniform_model_needs_transformers_alone():
    card = model_card(**PLAIN)
    assert "stock checkpoint" in card
    assert "import headcount" not in card
    assert "pip install" not in card


def test_a_standalone_model_needs_trust_and_no_headcount():
    card = model_card(**PLAIN | {"rung": "standalone"})
    assert "`trust_remote_code=True`" in card
    assert "trust_remote_code=True)" in card
    assert "import headcount" not in card
    assert "pip install" not in card


def test_a_padded_model_says_that_nothing_is_gained():
    card = model_card(**PLAIN | {"rung": "padded"})
    assert "It is as large and as slow as before pruning." in card
    assert "import headcount" not in card
    assert "pip install" not in card


def test_a_card_without_decision_and_report_has_no_number():
    for rung in RUNGS:
        card = model_card(**PLAIN | {"rung": rung})
        assert re.findall(r"\d", card) == []
        assert "## Numbers" not in card
        assert "## How it was made" not in card
        assert "## What is kept" not in card


def test_the_decision_is_told(decision):
    card = model_card(**PLAIN | {"decision": decision, "rung": "import"})
    assert "keeps 3 of 8 heads" in card
    assert "the method `dsp` for a budget of 3 heads" in card
    assert "| `encoder.layer.0.attention.self` | head | 3 of 4 | 0 2 3 |" in card
    assert "| `encoder.layer.1.attention.self` | head | 0 of 4 | none |" in card
    assert 'method: `dsp` with `{"learning_rate": 0.5}`' in card
    assert "seed: 7" in card
    assert "decided after 90 of 100 steps" in card


def test_a_decision_of_unknown_origin_is_told(decision):
    bare = dataclasses.replace(decision, provenance={})
    card = model_card(**PLAIN | {"decision": bare})
    assert "keeps 3 of 8 heads. The other" in card
    assert "seed" not in card


def test_the_report_is_told(report):
    card = model_card(**PLAIN | {"report": report})
    assert markdown(report) in card
    assert "sst2, accuracy; seed 7, 100 steps." in card
    assert "batch of 16, length 64" in card
    assert "Abacus 9 (2 threads)" in card
    assert "```bash\nheadcount prune tiny --heads 3\n```" in card
    assert "environment: torch 2.13.0, processor Abacus 9, num_threads 2" in card
    assert "chosen by the method `dsp`" in card


def test_every_number_is_in_the_report_or_the_decision(decision, report):
    card = model_card(**PLAIN | {"decision": decision, "report": report, "figure": "heads.png"})
    source = report.to_json() + decision.to_json() + markdown(report)
    assert numbers(card) <= numbers(source)


def test_the_figure_is_shown_if_there_is_one():
    assert "(heads.png)" in model_card(**PLAIN | {"figure": "heads.png"})
    assert "heads.png" not in model_card(**PLAIN)


def test_a_command_cannot_leave_its_block(report):
    odd = dataclasses.replace(report, command="echo '```'\n# not a heading")
    assert "````bash\necho '```'\n# not a heading\n````" in model_card(**PLAIN | {"report": odd})


@pytest.mark.parametrize("folder", ["out", 'a "b"\\c', "ä/ö"])
@pytest.mark.parametrize("rung", RUNGS)
def test_load_instructions_are_python(rung, folder):
    text = load_instructions(rung, "AutoModelForSequenceClassification", folder)
    first, *_, last = ast.parse(text).body
    names = [alias.name for alias in first.names]
    assert names == (["headcount"] if rung == "import" else ["AutoModelForSequenceClassification"])
    assert last.value.args[0].value == folder
    trusts = {keyword.arg: keyword.value.value for keyword in last.value.keywords}
    assert trusts == ({"trust_remote_code": True} if rung == "standalone" else {})
    assert len(text.splitlines()) in (3, 4)


@pytest.mark.parametrize("rung", RUNGS)
def test_the_card_says_what_load_instructions_say(rung):
    card = model_card(**PLAIN | {"rung": rung})
    assert load_instructions(rung, "AutoModel", "path/to/this/folder") in card
    assert json.dumps("path/to/this/folder") in card
