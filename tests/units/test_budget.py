import pytest
from hypothesis import given
from hypothesis import strategies as st

import headcount as hc
from cases import bert


@pytest.fixture(scope="module")
def table():
    return hc.units(bert())


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (13, r"Budget\(heads=13\): the model has 12 heads. Give 0 to 12."),
        (-1, r"Budget\(heads=-1\): a count cannot be negative"),
        ("12", r"Budget\(heads='12'\): str is not a number"),
        (None, r"NoneType is not a number"),
        (True, r"bool is not a number"),
        (1.5, r"a fraction lies between 0.0 and 1.0"),
        (float("nan"), r"a fraction lies between 0.0 and 1.0"),
    ],
)
def test_a_budget_that_cannot_be_met_says_what_can(table, heads, message):
    with pytest.raises(hc.BudgetError, match=message):
        hc.Budget(heads=heads).resolve(table)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scope": "each"}, r"Budget\(scope='each'\): give 'global' or 'layer'"),
        ({"min_per_layer": -1}, r"min_per_layer=-1\): give a whole number"),
        ({"min_per_layer": 5}, r"some layer can only keep 4 heads. Give min_per_layer 0 to 4"),
        ({"min_per_layer": 3}, r"3 layers need 9 heads. Give heads 9 to 12"),
    ],
)
def test_limits_that_cannot_be_met_say_what_can(table, fields, message):
    with pytest.raises(hc.BudgetError, match=message):
        hc.Budget(heads=6, **fields).resolve(table)


@pytest.mark.parametrize("fields", [{"heads": 5}, {"heads": 5, "min_per_layer": 1}])
def test_a_count_in_a_layer_is_checked_against_the_layer(table, fields):
    with pytest.raises(hc.BudgetError, match="4 heads"):
        hc.Budget(**fields, scope="layer").resolve(table)


@given(st.integers(0, 12))
def test_a_count_means_itself(heads):
    assert hc.Budget(heads=heads).resolve(hc.units(bert())).num_keep == heads


@pytest.mark.parametrize(
    ("fraction", "count"), [(0.0, 0), (0.25, 3), (0.5, 6), (0.29, 3), (1.0, 12)]
)
def test_a_fraction_is_rounded_to_the_nearest_count(table, fraction, count):
    assert hc.Budget(heads=fraction).resolve(table).num_keep == count


def test_scope_layer_holds_for_every_layer(table):
    quota = hc.Budget(heads=3, scope="layer").resolve(table)
    assert (quota.num_keep, quota.floors, quota.ceilings) == (9, (3, 3, 3), (3, 3, 3))
