"""Balanced weights."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headcount.tasks.balance import balance


def mass(weights, labels, groups):
    table = np.zeros((groups.max() + 1, labels.max() + 1))
    np.add.at(table, (groups, labels), weights)
    return table


items = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.floats(0.1, 1.0)), min_size=1, max_size=40
)


@given(items)
def test_labels_of_a_group_weigh_the_same(drawn):
    labels, groups, weights = (np.array(column) for column in zip(*drawn, strict=True))
    balanced = mass(balance(weights, labels, [groups]), labels, groups)
    for row in balanced:
        present = row[row > 0]
        np.testing.assert_allclose(present, present.mean() if len(present) else 0.0)
    np.testing.assert_allclose(balanced.sum(), 1.0)


@given(items)
def test_groups_keep_their_share(drawn):
    labels, groups, weights = (np.array(column) for column in zip(*drawn, strict=True))
    before = mass(weights, labels, groups).sum(axis=1) / weights.sum()
    after = mass(balance(weights, labels, [groups]), labels, groups).sum(axis=1)
    np.testing.assert_allclose(after, before)


def test_two_groupings_at_once():
    # Two labels, all four combinations of two features, the first feature telling at first.
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    rows, columns = np.array([0, 0, 1, 1] * 2), np.array([0, 1] * 4)
    weights = balance(np.arange(1.0, 9.0), labels, [rows, columns])
    for groups in (rows, columns):
        table = mass(weights, labels, groups)
        np.testing.assert_allclose(table[:, 0], table[:, 1])


def test_weights_given_stay_as_they_are():
    weights = np.array([1.0, 2.0])
    balance(weights, np.array([0, 1]), [np.array([0, 0])])
    assert weights.tolist() == [1.0, 2.0]
