"""Settings of a task by name."""

import pytest

from headcount.cli.tasks import settings_of, task_with
from headcount.errors import ArgumentError, DataError
from headcount.tasks import TASKS, TextClassification
from headcount.tasks.settings import setting_names, with_settings


def test_settings_are_given_by_name():
    task = task_with("text-classification", ["text=review", "problem=regression"])
    assert task == TextClassification(text="review", problem="regression")
    assert task.describe() == {"text": "review", "problem": "regression"}


def test_without_settings_a_task_is_itself():
    assert with_settings(TASKS["nli"], {}) is TASKS["nli"]


def test_labels_are_no_setting():
    assert setting_names(TASKS["text-classification"]) == [
        *("text", "pair", "label", "problem", "metric")
    ]
    assert TextClassification(names=("a", "b")).describe() == {}


@pytest.mark.parametrize("name", TASKS)
def test_what_a_task_describes_makes_it_again(name):
    task = TASKS[name]
    assert with_settings(task, task.describe()) == task


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["text"], DataError, "--task-set 'text': give NAME=VALUE, such as text=review."),
        (["=x"], DataError, "give NAME=VALUE"),
        (["text=a", "text=b"], DataError, "text is given twice"),
        (["column=a"], DataError, "there is no setting 'column'; it has text, pair, label"),
        (["names=a"], DataError, "there is no setting 'names'"),
        (["problem=sums"], ArgumentError, "problem='sums'"),
    ],
)
def test_bad_settings(words, error, said):
    with pytest.raises((error, DataError)) as caught:
        task_with("text-classification", words)
    assert said in str(caught.value)


def test_a_column_may_look_like_a_number():
    assert settings_of("token-classification", ["tags=2024"]) == {"tags": "2024"}
