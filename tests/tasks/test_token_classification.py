"""A tag for each token."""

import json
import logging

import numpy as np
import pytest
from datasets import ClassLabel, Features, List, Value
from datasets import Dataset as HubSet
from transformers import BertForTokenClassification, EvalPrediction

import headcount as hc
from cases import write_model
from headcount.errors import DataError
from headcount.runs.data import gather
from headcount.runs.recipe import Recipe
from headcount.tasks import TASKS, TokenClassification
from headcount.tasks.measures import entity_measures
from headcount.tasks.token_classification import are_entities

RECIPE = Recipe(epochs=1, batch_size=4, max_length=16, learning_rate=1e-2)
TEXT = "x\tB-PER\ny\tI-PER\nz\tO\n\nw\tO\nx\tB-LOC\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "model")


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def data_of(model, path, other=None, **given):
    return gather(str(model), TokenClassification(**given), [path], [other or path], RECIPE)


def rows_of(path, model, **given):
    task = TokenClassification(**given).settled([path], str(model), split="train")
    return task.read([path], split="train").to_list()


SENTENCES = [
    {"tokens": ["x", "y", "z"], "tags": ["B-PER", "I-PER", "O"]},
    {"tokens": ["w", "x"], "tags": ["O", "B-LOC"]},
]


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.replace("\t", " "),
        TEXT.replace("\t", "\tNN\tB-NP\t"),
        "# id = 1\n# text = x y z\n" + TEXT,
        "-DOCSTART-\tO\n\n" + TEXT + "\n\n\n",
        TEXT.replace("\n", "\r\n"),
    ],
)
def test_conll(text, model, tmp_path):
    assert rows_of(write(tmp_path / "a.conll", text), model) == SENTENCES


def test_a_token_may_be_a_hash(model, tmp_path):
    path = write(tmp_path / "a.conll", "#\tO\n# = x\tO\n")
    assert rows_of(path, model)[0]["tokens"] == ["#", "# = x"]


def test_conllu(model, tmp_path):
    def line(number, form, tag):
        return "\t".join([number, form, "_", tag, *["_"] * 6]) + "\n"

    text = "# text = vom Haus\n" + line("1-2", "vom", "_") + line("1", "von", "ADP")
    text += line("2", "dem", "DET") + line("2.1", "x", "X") + line("3", "Haus", "NOUN") + "\n"
    rows = rows_of(write(tmp_path / "a.conllu", text), model)
    assert rows == [{"tokens": ["von", "dem", "Haus"], "tags": ["ADP", "DET", "NOUN"]}]


def test_lists_in_json(model, tmp_path):
    lines = "".join(json.dumps({"id": 1, "words": r["tokens"], "ner_tags": r["tags"]}) + "\n"
                    for r in SENTENCES)  # fmt: skip
    rows = rows_of(write(tmp_path / "a.jsonl", lines), model)
    assert rows == [{"words": r["tokens"], "ner_tags": r["tags"]} for r in SENTENCES]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.conll", "x\n", "line 1 has 1 columns, and there must be a token and a tag"),
        ("a.conll", "x\tO\ny\tO\tO\n", "line 2 has 3 columns, and there must be 2"),
        ("a.conll", "x\t\n", "line 1 has an empty token or tag"),
        ("a.conll", "\n\n", "has no rows"),
        ("a.conllu", "1\tx\tO\n", "line 1 has 3 columns; CoNLL-U has ten"),
        ("a.jsonl", '{"tokens": ["a", "b"], "tags": ["O"]}\n', "'a.jsonl' line 1 has 2 tokens and"),
        ("a.jsonl", '{"tokens": [], "tags": []}\n', "line 1 has 0 tokens and 0 tags"),
        ("a.jsonl", '{"tokens": ["a"], "tags": [null]}\n', "line 1 has None as 'tags'"),
        ("a.jsonl", '{"tokens": ["a"], "kind": ["O"]}\n', "is known to be the tags. Name it"),
        ("a.tsv", "tokens\ttags\na, b\tO\n", "'a.tsv' line 2 has 2 tokens and 1 tags"),
    ],
)
def test_bad_data(name, text, said, model, tmp_path):
    with pytest.raises(DataError) as caught:
        data_of(model, write(tmp_path / name, text))
    assert said in str(caught.value)


def test_other_columns_do_not_exist_in_conll(model, tmp_path):
    path = write(tmp_path / "a.conll", TEXT)
    with pytest.raises(DataError, match="there is no column 'words'"):
        data_of(model, path, tokens="words", tags="tags")


def test_the_first_piece_of_a_token_has_its_tag(model, tmp_path):
    data = data_of(model, write(tmp_path / "a.conll", TEXT))
    assert data.task.labels(data.train) == ("O", "B-LOC", "B-PER", "I-PER")
    for row, sentence in zip(data.train, SENTENCES, strict=True):
        words = data.processor(sentence["tokens"], is_split_into_words=True).word_ids()
        names = data.task.names
        spelt = {w: names[label] for w, label in zip(words, row["labels"], strict=True)
                 if label >= 0}  # fmt: skip
        assert [spelt[word] for word in range(len(sentence["tags"]))] == sentence["tags"]
        seen = [word for word in words if word is not None]
        assert sum(label >= 0 for label in row["labels"]) == len(set(seen))


def test_tokens_that_are_cut_off_are_told(model, tmp_path, caplog):
    path = write(tmp_path / "a.conll", "x\tO\n" * 30 + "y\tNAME\n")
    with caplog.at_level(logging.WARNING, "headcount"):
        data_of(model, path)
    assert "train: 17 of 31 tokens are left out: behind 16 pieces, or without any piece" in (
        caplog.messages
    )


def test_tags_that_only_the_evaluation_data_have(model, tmp_path):
    other = write(tmp_path / "b.conll", TEXT.replace("LOC", "ORG"))
    with pytest.raises(DataError) as caught:
        data_of(model, write(tmp_path / "a.conll", TEXT), other)
    assert "the sentence of 'b.conll' line 5 has the tag 'B-ORG', which the training" in str(
        caught.value
    )


def test_entities_are_whole():
    golds = [["B-PER", "I-PER", "O", "B-LOC"]]
    half = entity_measures([["B-PER", "O", "O", "B-LOC"]], golds)
    assert half == {"entity_f1": 0.5, "entity_precision": 0.5, "entity_recall": 0.5}
    assert entity_measures(golds, golds)["entity_f1"] == 1.0
    assert entity_measures([["O"] * 4], golds)["entity_f1"] == 0.0
    # In the strict form, an inside without a beginning is no entity.
    assert entity_measures([["I-PER", "I-PER", "O", "O"]], golds)["entity_f1"] == 0.0


def test_measures_leave_out_pieces_without_a_tag():
    task = TokenClassification(names=("O", "B-X"))
    golds = np.array([[-100, 0, 1, -100], [1, -100, -100, -100]])
    answers = np.array([[1, 0, 1, 0], [0, 1, 1, 1]])
    found = task.metrics(EvalPrediction(predictions=answers, label_ids=golds))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["entity_f1"] == pytest.approx(2 / 3)
    plain = TokenClassification(names=("NOUN", "VERB"))
    assert plain.primary_metric == "accuracy"
    found = plain.metrics(EvalPrediction(predictions=answers, label_ids=golds))
    assert set(found) == {"accuracy", "f1"}


def test_entities_are_told_from_other_tags():
    assert are_entities(("O", "B-LOC", "I-LOC"))
    assert not are_entities(("O",))
    assert not are_entities(("NOUN", "B-X"))


def test_prune_and_evaluate(model, tmp_path):
    train = write(tmp_path / "a.conll", (TEXT + "\n") * 4)
    pruned = hc.prune(model, train=[train], eval=[train], budget=hc.Budget(heads=3),
                      task="token-classification", output=tmp_path / "out",
                      options=hc.Options(recipe=RECIPE, latency_length=16))  # fmt: skip
    assert isinstance(pruned.model, BertForTokenClassification)
    assert pruned.report.metric == "entity_f1"
    found = hc.evaluate(tmp_path / "out", eval=[train], task="token-classification", recipe=RECIPE)
    assert found == {"entity_f1": pytest.approx(pruned.report.rows[-1].quality, abs=1e-12)}
    assert "pipeline_tag: token-classification" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("names", "metric"), [(["O", "B-LOC"], "entity_f1"), (["NOUN", "VERB"], "accuracy")]
)
def test_class_labels_in_lists_are_tags_by_name(names, metric, model, tmp_path):
    """As the hub stores tags: numbers, whose names are in the features."""
    features = Features(
        {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))}
    )
    rows = {"tokens": [["x", "y"], ["z"]], "ner_tags": [[0, 1], [1]]}
    path = tmp_path / "a.parquet"
    HubSet.from_dict(rows, features=features).to_parquet(path)
    task = TokenClassification().settled([path], str(model), split="train")
    assert task.metric == metric
    table = task.read([path], split="train")
    assert table["ner_tags"] == [[names[0], names[1]], [names[1]]]


def test_the_task_has_a_name():
    assert TASKS["token-classification"] == TokenClassification()
