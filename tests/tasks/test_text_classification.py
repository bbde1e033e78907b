"""One label, several labels or a number for one or two texts."""

import gzip
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from transformers import BertForSequenceClassification, BertModel, EvalPrediction

import headcount as hc
from cases import write_model
from headcount.errors import DataError
from headcount.runs.data import gather
from headcount.runs.recipe import Recipe
from headcount.tasks import TASKS, TextClassification
from headcount.tasks.measures import correlations

TASK = TextClassification()
RECIPE = Recipe(epochs=1, batch_size=4, max_length=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Path(write_model(tmp_path_factory.mktemp("models") / "model"))


def write(path, rows, header=("text", "label")):
    lines = ["\t".join(header), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_json(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settle(path, model, **given):
    return TextClassification(**given).settled([path], str(model), split="train")


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (("text", "label"), ("text", "label")),
        (("Review", "stars"), ("Review", "stars")),
        (("id", "sentence1", "sentence2", "label"), ("sentence1", "sentence2", "label")),
        (("text_a", "text_b", "score"), ("text_a", "text_b", "score")),
        (("label", "question", "answer"), ("question", "answer", "label")),
        (("text", "title", "label"), ("text", "label")),
    ],
)
def test_columns_are_found_by_their_usual_names(header, columns, model, tmp_path):
    path = write(tmp_path / "a.tsv", [["x"] * len(header)], header)
    assert settle(path, model).columns == columns


@pytest.mark.parametrize(
    ("header", "given", "said"),
    [
        (("a", "label"), {}, "no column of ['a', 'label'] is known to be the text. Name it: "),
        (("text", "b"), {}, "is known to be the label. Name it: --task-set label=COLUMN"),
        (
            ("text", "label"),
            {"text": "body"},
            "no column 'body'; the columns are ['text', 'label']",
        ),
        (("text", "label"), {"pair": "other"}, "no column 'other'"),
    ],
)
def test_columns_that_cannot_be_found(header, given, said, model, tmp_path):
    path = write(tmp_path / "a.tsv", [["x", "y"]], header)
    with pytest.raises(DataError) as caught:
        settle(path, model, **given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (["0", "1"], "single-label"),
        (["good", "bad"], "single-label"),
        (["1.0", "2"], "regression"),
        (["0.5", "-2.25"], "regression"),
        (["1.0", "good"], "single-label"),
    ],
)
def test_the_problem_is_found_from_the_labels(labels, problem, model, tmp_path):
    path = write(tmp_path / "a.tsv", [["x", label] for label in labels])
    assert settle(path, model).problem == problem


def test_lists_are_several_labels(model, tmp_path):
    rows = [{"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": []}]
    assert settle(write_json(tmp_path / "a.jsonl", rows), model).problem == "multi-label"


def test_the_problem_of_a_classifier_is_taken_from_it(tmp_path, model):
    inner = BertModel.from_pretrained(model)
    inner.config.num_labels = 1
    BertForSequenceClassification(inner.config).save_pretrained(tmp_path / "one")
    path = write(tmp_path / "a.tsv", [["x", "0"], ["y", "1"]])
    assert settle(path, tmp_path / "one").problem == "regression"


def data_of(model, train, evaluation=None, **given):
    task = TextClassification(**given)
    return gather(str(model), task, [train], [evaluation or train], RECIPE)


def test_labels_are_ordered_by_size(model, tmp_path):
    path = write(tmp_path / "a.tsv", [["x", label] for label in ("10", "9", "-1")])
    data = data_of(model, path)
    assert data.task.labels(data.train) == ("-1", "9", "10")
    assert data.train["labels"] == [2, 1, 0]
    fresh = data.fresh_model(str(model))
    assert fresh.config.id2label == {0: "-1", 1: "9", 2: "10"}
    assert fresh.config.problem_type == "single_label_classification"


def test_several_labels_become_marks(model, tmp_path):
    rows = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []},
            {"text": "c", "label": ["y", "y"]}]  # fmt: skip
    data = data_of(model, write_json(tmp_path / "a.jsonl", rows))
    assert data.train["labels"] == [[0, 1], [], [1]]
    batch = data.collator([data.train[row] for row in range(3)])
    assert batch["labels"].tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]
    loss = data.fresh_model(str(model))(**batch).loss
    assert loss.isfinite()


def test_several_labels_with_commas(model, tmp_path):
    path = write(tmp_path / "a.tsv", [["a", "x, y"], ["b", ""], ["c", "z"]])
    data = data_of(model, path, problem="multi-label")
    assert data.task.labels(data.train) == ("x", "y", "z")
    assert data.train["labels"] == [[0, 1], [], [2]]


def test_numbers_are_predicted_by_one_output(model, tmp_path):
    path = write(tmp_path / "a.tsv", [["x", "1.5"], ["y", "-2"]])
    data = data_of(model, path)
    assert data.train["labels"] == [1.5, -2.0]
    fresh = data.fresh_model(str(model))
    batch = data.collator([data.train[row] for row in range(2)])
    assert fresh.num_labels == 1
    expected = ((fresh(**batch).logits.squeeze(-1) - batch["labels"]) ** 2).mean()
    assert fresh(**batch).loss.item() == pytest.approx(expected.item(), rel=1e-6)


def classifier(folder, model, names):
    inner = BertModel.from_pretrained(model)
    inner.config.id2label = dict(enumerate(names))
    BertForSequenceClassification(inner.config).save_pretrained(folder)
    for file in model.glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_numbers_mean_the_labels_of_a_classifier(model, tmp_path):
    tuned = classifier(tmp_path / "tuned", model, ("NEGATIVE", "POSITIVE"))
    data = data_of(tuned, write(tmp_path / "a.tsv", [["x", "1"], ["y", "0"]]))
    assert data.task.labels(data.train) == ("NEGATIVE", "POSITIVE")
    assert data.train["labels"] == [1, 0]


def test_numbers_of_a_classifier_without_names_are_numbers(model, tmp_path):
    tuned = classifier(tmp_path / "tuned", model, ("LABEL_0", "LABEL_1"))
    data = data_of(tuned, write(tmp_path / "a.tsv", [["x", "1"], ["y", "0"]]))
    assert data.task.labels(data.train) == ("0", "1")
    assert data.train["labels"] == [1, 0]


def test_words_take_the_order_of_a_classifier(model, tmp_path):
    tuned = classifier(tmp_path / "tuned", model, ("Positive", "Negative"))
    data = data_of(tuned, write(tmp_path / "a.tsv", [["x", "positive"], ["y", "negative"]]))
    assert data.task.labels(data.train) == ("positive", "negative")
    assert data.train["labels"] == [0, 1]


@pytest.mark.parametrize(
    ("labels", "given", "said"),
    [
        (["a", "a"], {}, "the only label in column 'label' is ['a']. Give examples of two labels"),
        (["1.5", "much"], {"problem": "regression"}, "'a.tsv' line 3 has 'much' as 'label'. Give"),
        (["1.5", "nan"], {"problem": "regression"}, "has 'nan' as 'label'. Give a finite number"),
        (["Good", "good"], {}, "the labels ['Good', 'good'] differ in capitals alone"),
        (list(map(str, range(1001))), {}, "has 1001 different labels; at most 1000 are taken"),
    ],
)
def test_bad_labels(labels, given, said, model, tmp_path):
    path = write(tmp_path / "a.tsv", [["x", label] for label in labels])
    with pytest.raises(DataError) as caught:
        data_of(model, path, **given)
    assert said in str(caught.value)


def test_labels_that_only_the_evaluation_data_have(model, tmp_path):
    train = write(tmp_path / "a.tsv", [["x", "a"], ["y", "b"]])
    other = write(tmp_path / "b.tsv", [["x", "a"], ["y", "c"]])
    with pytest.raises(DataError) as caught:
        data_of(model, train, other)
    assert "'b.tsv' line 3 has the label 'c', which the training data or the model" in str(
        caught.value
    )


@pytest.mark.parametrize("strange", ["0", "2"])
def test_a_number_among_labels_that_are_numbers_is_no_index(strange, model, tmp_path):
    """Among stars 1, 3 and 5, neither 0 nor 2 is a label, though there are three."""
    train = write(tmp_path / "a.tsv", [["x", "1"], ["y", "3"], ["z", "5"]])
    other = write(tmp_path / "b.tsv", [["x", "1"], ["y", strange]])
    with pytest.raises(DataError, match=f"'b.tsv' line 3 has the label '{strange}'"):
        data_of(model, train, other)


def test_numbers_stand_for_words_in_evaluation_data(model, tmp_path):
    train = write(tmp_path / "a.tsv", [["x", "bad"], ["y", "good"]])
    data = data_of(model, train, write(tmp_path / "b.tsv", [["x", "1"], ["y", "good"]]))
    assert data.eval["labels"] == [1, 1]


def test_another_metric(model, tmp_path):
    assert (
        TextClassification(problem="single-label", metric="matthews").primary_metric == "matthews"
    )
    with pytest.raises(DataError, match="give one of accuracy, f1, matthews"):
        TextClassification(problem="single-label", metric="spearman")
    path = write(tmp_path / "a.tsv", [["x", "a"], ["y", "b"]])
    with pytest.raises(DataError, match="give one of accuracy, f1, matthews"):
        settle(path, model, metric="pearson")


def test_correlations_are_those_of_scipy_also_with_ties():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, 50).astype(float), rng.normal(size=50)
    found = correlations(one, other)
    assert found["spearman"] == pytest.approx(stats.spearmanr(one, other)[0])
    assert correlations(np.ones(3), other[:3]) == {"spearman": 0.0, "pearson": 0.0}


def test_correct_ones_are_known_only_for_shares():
    logits, golds = np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([1, 1])
    prediction = EvalPrediction(predictions=logits, label_ids=golds)
    assert TextClassification(problem="single-label").correct(prediction).tolist() == [True, False]
    assert TextClassification(problem="single-label", metric="f1").correct(prediction) is None
    assert TextClassification(problem="regression").correct(prediction) is None
    marks = EvalPrediction(predictions=logits - 0.5, label_ids=np.array([[0, 1], [1, 0]]))
    exact = TextClassification(problem="multi-label", metric="exact")
    assert exact.correct(marks).tolist() == [True, False]


@pytest.mark.parametrize(
    "kind",
    [
        *("several", "numbers"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("labels", "pairs")),
    ],
)
def test_prune_and_evaluate(kind, model, tmp_path):
    """A classifier of each problem is pruned, saved and measured again: the same number."""
    words = ["x", "y", "z", "w"] * 4
    if kind == "several":
        rows = [{"text": w, "label": ["a"] if n % 2 else ["a", "b"]} for n, w in enumerate(words)]
        train = write_json(tmp_path / "a.jsonl", rows)
    else:
        gold = {"labels": "ab", "numbers": ["0.5", "1.5"], "pairs": "ab"}[kind]
        columns = ("text_a", "text_b", "label") if kind == "pairs" else ("text", "label")
        extra = ["p"] * (kind == "pairs")
        train = write(tmp_path / "a.tsv", [[w, *extra, gold[n % 2]] for n, w in enumerate(words)],
                      columns)  # fmt: skip
    pruned = hc.prune(model, train=[train], eval=[train], budget=hc.Budget(heads=3),
                      task="text-classification", output=tmp_path / "out",
                      options=hc.Options(recipe=RECIPE, latency_length=16))  # fmt: skip
    assert pruned.decision.num_kept == 3
    report = pruned.report
    assert report.metric == {"several": "f1", "numbers": "spearman"}.get(kind, "accuracy")
    found = hc.evaluate(tmp_path / "out", eval=[train], task="text-classification", recipe=RECIPE)
    assert found == {report.metric: pytest.approx(report.rows[-1].quality, abs=1e-12)}


def test_gzip_and_the_log(model, tmp_path, caplog):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"text\tlabel\nx\ta\ny\tb\n"))
    with caplog.at_level(logging.INFO, "headcount"):
        assert settle(path, model).columns == ("text", "label")
    assert "text-classification: text 'text', label 'label' (single-label)" in caplog.messages


def test_the_task_has_a_name():
    assert TASKS["text-classification"] == TASK
    assert TASK.describe() == {}
    assert TextClassification(text="a").describe() == {"text": "a"}
