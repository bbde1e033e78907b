import re
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headcount as hc
from cases import bert, llama, with_cross_attention
from headcount.units.nesting import allowed

BERT, BOTH, GROUPED = hc.units(bert()), hc.units(with_cross_attention()), hc.units(llama())
"""12 heads of an encoder; 36 of an encoder and a decoder; 24 that share 12 key-value heads."""


def uneven():
    """8, 6 and 8 heads that share 4, 3 and 4 key-value heads."""
    model = llama()
    keep = torch.arange(12) != 7
    decision = hc.Decision.of(hc.units(model, "kv_head"), keep, keep.double(), {})
    return hc.units(hc.cut(model, decision))


TABLES = {"bert": BERT, "both": BOTH, "llama": GROUPED, "uneven": uneven()}


def quota(budget, table=BERT):
    """The quota of a budget with one number."""
    (pool,) = budget.quotas(table)
    return pool


def kinds_and_counts(budget, table):
    """What each number of a budget is about, and how many stay."""
    return [
        (pool.units.sites[0].kind, len(pool.units), pool.num_keep) for pool in budget.quotas(table)
    ]


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({}, r"nothing is asked. Give a number of neurons"),
        ({3: 1}, r"Budget\(heads=\{3: 1\}\)"),
        (13, r"Budget\(heads=13\): the model has 12 heads. Give 0 to 12."),
        (-1, r"Budget\(heads=-1\): a count cannot be negative"),
        ("12", r"Budget\(heads='12'\): str is not a number"),
        (None, r"Budget\(\): nothing is asked. Give a number of neurons, heads, kv_heads, "),
        (True, r"bool is not a number"),
        (1.5, r"a fraction lies between 0.0 and 1.0"),
        (float("nan"), r"a fraction lies between 0.0 and 1.0"),
        ({"self": -1}, r"Budget\(heads=\{'self': -1\}\): a count cannot be negative"),
        ({"self": None}, r"Budget\(heads=\{'self': None\}\): NoneType is not a number"),
        ({"self": 1, "cross": 1.5}, r"Budget\(heads=\{'cross': 1.5\}\): a fraction lies between"),
    ],
)
def test_a_budget_that_cannot_be_met_says_what_can(heads, message):
    with pytest.raises(hc.BudgetError, match=message):
        hc.Budget(heads=heads).quotas(BERT)


@pytest.mark.parametrize("kind", ["kv_heads", "neurons", "sublayers", "layers"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1, "a count cannot be negative"),
        ("2", "str is not a number"),
        (False, "bool is not a number"),
        (1.01, "a fraction lies between"),
    ],
)
def test_every_kind_is_checked_alike(kind, value, message):
    with pytest.raises(hc.BudgetError, match=rf"Budget\({kind}={value!r}\): {message}"):
        hc.Budget(**{kind: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scope": "each"}, r"Budget\(scope='each'\): give 'global' or 'layer'"),
        ({"min_per_layer": -1}, r"min_per_layer=-1\): give a whole number"),
        ({"min_per_layer": 5}, r"some layer can only keep 4 heads. Give min_per_layer 0 to 4"),
        ({"min_per_layer": 3}, r"3 layers need 9 heads. Give heads 9 to 12"),
    ],
)
def test_limits_that_cannot_be_met_say_what_can(fields, message):
    with pytest.raises(hc.BudgetError, match=message):
        hc.Budget(heads=6, **fields).quotas(BERT)


@pytest.mark.parametrize("fields", [{"heads": 5}, {"heads": 5, "min_per_layer": 1}])
def test_a_count_in_a_layer_is_checked_against_the_layer(fields):
    with pytest.raises(hc.BudgetError, match="4 heads"):
        hc.Budget(**fields, scope="layer").quotas(BERT)


@given(st.integers(0, 12))
def test_a_count_means_itself(heads):
    assert quota(hc.Budget(heads=heads)).num_keep == heads


@pytest.mark.parametrize(
    ("fraction", "count"), [(0.0, 0), (0.25, 3), (0.5, 6), (0.29, 3), (1.0, 12)]
)
def test_a_fraction_is_rounded_to_the_nearest_count(fraction, count):
    assert quota(hc.Budget(heads=fraction)).num_keep == count


@given(st.integers(0, 1000), st.integers(1, 300))
def test_a_fraction_is_rounded_as_it_is_written(thousandths, size):
    """Halves up, in decimals: 0.58 of 25 heads is 14.5, of which the float is a little less."""
    written = f"0.{thousandths:03}" if thousandths < 1000 else "1.0"
    expected = int((Decimal(written) * size).quantize(Decimal(1), ROUND_HALF_UP))
    row = replace(BERT.only("neuron").sites[0], num_units=size)
    for scope in ("global", "layer"):
        budget = hc.Budget(neurons=float(written), scope=scope)
        assert quota(budget, hc.UnitTable(sites=(row,))).num_keep == expected


def test_a_fraction_between_two_totals_that_groups_can_have():
    """0.58 of 25 bundles of 4 heads each is half-way between 14 and 15 bundles: 15."""
    head = replace(GROUPED.only("head").sites[0], num_units=100, num_groups=4)
    for scope in ("global", "layer"):
        budget = hc.Budget(heads=0.58, scope=scope)
        assert quota(budget, hc.UnitTable(sites=(head,))).num_keep == 60


def test_scope_layer_holds_for_every_layer():
    found = quota(hc.Budget(heads=3, scope="layer"))
    assert (found.num_keep, found.floors, found.ceilings) == (9, (3, 3, 3), (3, 3, 3))


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (hc.Budget(heads=5, neurons=0.25), [("head", 12, 5), ("neuron", 96, 24)]),
        (hc.Budget(neurons=7, layers=2), [("layer", 3, 2), ("neuron", 96, 7)]),
        (
            hc.Budget(neurons=7, heads=4, sublayers={"self": 1, "ffn": 2}, layers=3),
            [
                ("layer", 3, 3),
                ("sublayer", 3, 1),
                ("sublayer", 3, 2),
                ("head", 12, 4),
                ("neuron", 96, 7),
            ],
        ),
    ],
)
def test_several_kinds_have_a_pool_each_the_outermost_first(budget, expected):
    assert kinds_and_counts(budget, BERT) == expected


def test_scope_and_floors_hold_for_every_kind():
    quotas = hc.Budget(heads=2, neurons=8, scope="layer").quotas(BERT)
    assert [pool.floors for pool in quotas] == [(2, 2, 2), (8, 8, 8)]
    quotas = hc.Budget(heads=6, neurons=30, min_per_layer=2).quotas(BERT)
    assert [pool.floors for pool in quotas] == [(2, 2, 2)] * 2
    assert [pool.ceilings for pool in quotas] == [(4, 4, 4), (32, 32, 32)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", 36),
        ("encoder", 12),
        ("decoder", 24),
        ("self", 24),
        ("cross", 12),
        ("decoder.self", 12),
        ("self.decoder", 12),
        ("decoder.cross", 12),
    ],
)
def test_where_narrows_the_units(where, expected):
    (pool,) = hc.Budget(heads=0.5, place=where).quotas(BOTH)
    assert (len(pool.units), pool.num_keep) == (expected, expected // 2)
    names = set(where.split(".")) if where else set()
    assert all(names <= {site.stack, site.branch} for site in pool.units.sites)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ({"encoder": 6, "decoder": 0.5}, [("head", 12, 6), ("head", 24, 12)]),
        ({"decoder.cross": 2}, [("head", 12, 2)]),
        (
            {"cross": 1, "decoder.self": 0, "encoder.self": 1.0},
            [("head", 12, 1), ("head", 12, 0), ("head", 12, 12)],
        ),
    ],
)
def test_places_have_numbers_of_their_own(heads, expected):
    assert kinds_and_counts(hc.Budget(heads=heads), BOTH) == expected


def test_where_and_places_both_hold():
    budget = hc.Budget(heads={"self": 3, "cross": 2}, neurons=4, place="decoder")
    quotas = budget.quotas(BOTH)
    assert kinds_and_counts(budget, BOTH) == [("head", 12, 3), ("head", 12, 2), ("neuron", 96, 4)]
    assert {site.stack for pool in quotas for site in pool.units.sites} == {"decoder"}


def test_a_place_of_a_feed_forward_network():
    budget = hc.Budget(sublayers={"ffn": 2, "encoder.self": 1, "cross": 3})
    assert kinds_and_counts(budget, BOTH) == [
        ("sublayer", 6, 2),
        ("sublayer", 3, 1),
        ("sublayer", 3, 3),
    ]


def matches(text):
    """The whole message and nothing else."""
    return f"^{re.escape(text)}$"


@pytest.mark.parametrize(
    ("budget", "table", "message"),
    [
        (
            hc.Budget(heads=3, place="cross"),
            BERT,
            "Budget(heads=3) at 'cross': the model has no heads there. It has heads at: encoder, "
            "self. Give one of these, or several joined by dots.",
        ),
        (
            hc.Budget(heads={"middle": 3}),
            BOTH,
            "Budget(heads=3) at 'middle': the model has no heads there. It has heads at: encoder, "
            "self, decoder, cross. Give one of these, or several joined by dots.",
        ),
        (
            hc.Budget(heads={"encoder.cross": 3}),
            BOTH,
            "Budget(heads=3) at 'encoder.cross': the model has no heads there. It has heads at: "
            "encoder, self, decoder, cross. Give one of these, or several joined by dots.",
        ),
        (
            hc.Budget(heads={"encoder": 3}, place="cross"),
            BOTH,
            "Budget(heads=3) at 'encoder': the model has no heads there. It has heads at: decoder, "
            "cross. Give one of these, or several joined by dots.",
        ),
        (
            hc.Budget(heads=3, neurons=0.5, place="self"),
            BERT,
            "Budget(neurons=0.5) at 'self': the model has no neurons there. It has neurons at: "
            "encoder. Give one of these, or several joined by dots.",
        ),
    ],
)
def test_a_place_without_units_is_refused_with_those_there_are(budget, table, message):
    with pytest.raises(hc.BudgetError, match=matches(message)):
        budget.quotas(table)


def test_a_kind_that_the_model_does_not_have_is_refused_with_those_it_has():
    message = (
        "Budget(kv_heads=3): the model has no key-value heads. It has 3 layers, 6 sublayers, 12 "
        "heads, 96 neurons: ask for these."
    )
    with pytest.raises(hc.BudgetError, match=matches(message)):
        hc.Budget(kv_heads=3).quotas(BERT)


@pytest.mark.parametrize(
    "budget",
    [
        hc.Budget(heads={"decoder": 6, "decoder.cross": 2}),
        hc.Budget(heads={"cross": 6, "decoder.cross": 6}),
        hc.Budget(heads={"": 6, "cross": 2}),
    ],
)
def test_two_numbers_for_the_same_units_are_refused(budget):
    message = (
        "Budget: two numbers are given for the heads of "
        "decoder.bert.encoder.layer.0.crossattention.self. Give places that have no units in "
        "common."
    )
    with pytest.raises(hc.BudgetError, match=matches(message)):
        budget.quotas(BOTH)


@pytest.mark.parametrize("values", [(3, 2), (0.5, 2), ({"self": 3}, {"cross": 1})])
def test_heads_and_groups_together_are_refused(values):
    heads, groups = values
    message = (
        f"Budget(heads={heads!r}, kv_heads={groups!r}): give one of them. A key-value head "
        "stays or goes with all its query heads."
    )
    with pytest.raises(hc.BudgetError, match=matches(message)):
        hc.Budget(heads=heads, kv_heads=groups)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            hc.Budget(sublayers={"self": 1, "ffn": 2}, heads=5),
            "Budget(sublayers=1, heads=5): the sublayers that stay may hold only 4 heads. Give "
            "heads 0 to 4 without min_per_layer, or name places: Budget(sublayers={'self': ..., "
            "'ffn': ...}).",
        ),
        (
            hc.Budget(sublayers=4, heads=5),
            "Budget(sublayers=4, heads=5): the sublayers that stay may hold only 4 heads. Give "
            "heads 0 to 4 without min_per_layer, or name places: Budget(sublayers={'self': ..., "
            "'ffn': ...}).",
        ),
    ],
)
def test_units_for_which_there_may_be_no_room_are_refused(budget, message):
    with pytest.raises(hc.BudgetError, match=matches(message)):
        budget.quotas(BERT)


@pytest.mark.parametrize(
    ("fields", "room"),
    [
        ({"layers": 2, "heads": 9}, "2, heads=9): the layers that stay may hold only 8 heads"),
        (
            {"layers": 1, "neurons": 33},
            "1, neurons=33): the layers that stay may hold only 32 neurons",
        ),
        (
            {"layers": 1, "sublayers": 3},
            "1, sublayers=3): the layers that stay may hold only 2 sublayers",
        ),
        (
            {"sublayers": {"ffn": 2}, "neurons": 65},
            "2, neurons=65): the sublayers that stay may hold only 64",
        ),
        (
            {"sublayers": 4, "heads": 3, "min_per_layer": 1},
            "heads=3): the sublayers that stay may hold only 4 heads. Give heads 0 to 4 without",
        ),
    ],
)
def test_nested_kinds_that_do_not_fit_are_refused(fields, room):
    with pytest.raises(hc.BudgetError, match=re.escape(room)):
        hc.Budget(**fields).quotas(BERT)


@given(st.integers(0, 3), st.integers(0, 12))
def test_heads_fit_into_layers_exactly_if_any_layers_that_stay_hold_them(layers, heads):
    budget = hc.Budget(layers=layers, heads=heads)
    if heads <= 4 * layers:
        assert kinds_and_counts(budget, BERT) == [("layer", 3, layers), ("head", 12, heads)]
    else:
        with pytest.raises(hc.BudgetError, match=f"may hold only {4 * layers} heads"):
            budget.quotas(BERT)


@pytest.mark.parametrize(("heads", "below", "above"), [(13, 12, 16), (1, 0, 4), (23, 20, 24)])
def test_a_total_that_shared_key_value_heads_cannot_have_is_refused(heads, below, above):
    message = (
        f"Budget(heads={heads}): the model cannot keep exactly {heads} heads: each of the 4 "
        "key-value heads of a layer keeps equally many query heads. Give "
        f"{below} or {above}, or Budget(kv_heads=...), which takes a key-value head with "
        "all of them."
    )
    with pytest.raises(hc.BudgetError, match=matches(message)):
        hc.Budget(heads=heads).quotas(GROUPED)


def test_a_count_in_a_layer_that_shared_key_value_heads_cannot_have_is_refused():
    message = r"Budget\(heads=3\): a layer cannot keep exactly 3 heads: .* Give 0 or 4, or"
    with pytest.raises(hc.BudgetError, match=message):
        hc.Budget(heads=3, scope="layer").quotas(GROUPED)
    found = quota(hc.Budget(heads=4, scope="layer"), GROUPED)
    assert (found.num_keep, found.floors, found.ceilings) == (12, (4, 4, 4), (4, 4, 4))


@given(st.integers(0, 6).map(lambda share: 4 * share))
def test_a_total_that_shared_key_value_heads_can_have_means_itself(heads):
    found = quota(hc.Budget(heads=heads), GROUPED)
    assert (found.num_keep, found.bundles) == (heads, ((8, 4),) * 3)


@given(st.integers(0, 24))
def test_a_fraction_goes_to_the_nearest_legal_total(count):
    """From a count that the fraction names exactly: the nearest multiple of four, halves up."""
    assert quota(hc.Budget(heads=count / 24), GROUPED).num_keep == (count + 2) // 4 * 4


@given(st.integers(0, 12))
def test_whole_groups_may_go_freely(groups):
    found = quota(hc.Budget(kv_heads=groups), GROUPED)
    assert (found.num_keep, found.bundles) == (groups, ())


@given(st.integers(0, 24))
def test_a_quota_rises_to_the_next_legal_total(count):
    found = quota(hc.Budget(heads=0), GROUPED).at_least(count)
    assert found.num_keep == -(-count // 4) * 4


@pytest.mark.parametrize("allowed", [None, torch.arange(12) >= 4])
def test_a_quota_keeps_the_best_of_what_is_allowed(allowed):
    scores = 12.0 - torch.arange(12)
    keep = quota(hc.Budget(heads=3)).keep(scores,
                                          allowed=allowed)  # fmt: skip
    first = 0 if allowed is None else 4
    assert keep.nonzero().flatten().tolist() == [first, first + 1, first + 2]


@pytest.mark.parametrize(
    ("budget", "asked"),
    [
        (hc.Budget(heads=12), {"heads": 12}),
        (hc.Budget(heads=0.5, scope="layer"), {"heads": 0.5, "scope": "layer"}),
        (hc.Budget(neurons=8, layers=2, min_per_layer=1),
         {"layers": 2, "neurons": 8, "min_per_layer": 1}),
        (hc.Budget(sublayers={"self": 2}, place="decoder"),
         {"sublayers": {"self": 2}, "place": "decoder"}),
    ],
)  # fmt: skip
def test_a_budget_describes_what_was_asked_and_no_more(budget, asked):
    assert budget.describe() == asked
    assert hc.Budget(**budget.describe()) == budget
    given = ", ".join(f"{name}={value!r}" for name, value in asked.items())
    assert repr(budget) == f"Budget({given})"


@pytest.mark.parametrize(
    ("budget", "name"),
    [
        (hc.Budget(heads=4, min_per_layer=1), "llama"),
        (hc.Budget(heads=8, min_per_layer=1), "llama"),
        (hc.Budget(heads=16, min_per_layer=5), "llama"),
        (hc.Budget(layers={"encoder": 1, "decoder": 1}, heads=13), "both"),
        (hc.Budget(layers={"encoder": 2, "decoder": 0}, neurons=65), "both"),
        (hc.Budget(sublayers={"self": 0, "cross": 0}, heads=1), "both"),
        (hc.Budget(sublayers={"self": 3, "cross": 3}, heads=25), "both"),
        (hc.Budget(layers={"decoder": 2}, sublayers={"cross": 1}, heads={"decoder": 13}), "both"),
        (hc.Budget(sublayers={"self": 2}, heads=14), "uneven"),
        (hc.Budget(heads=4, scope="layer"), "uneven"),
    ],
    ids=repr,
)
def test_what_could_turn_out_impossible_is_refused_before_training(budget, name):
    with pytest.raises(hc.BudgetError):
        budget.quotas(TABLES[name])


@pytest.mark.parametrize(
    ("budget", "name"),
    [
        (hc.Budget(heads=12, min_per_layer=1), "llama"),
        (hc.Budget(heads=16, min_per_layer=4), "llama"),
        (hc.Budget(layers={"encoder": 1, "decoder": 1}, heads=12), "both"),
        (hc.Budget(layers={"encoder": 2, "decoder": 0}, neurons=64), "both"),
        (hc.Budget(sublayers={"self": 3, "cross": 3}, heads=24), "both"),
        (hc.Budget(layers={"decoder": 2}, sublayers={"cross": 1}, heads={"decoder": 8}), "both"),
        (hc.Budget(heads=6, neurons=48, min_per_layer=1), "bert"),
        (hc.Budget(heads=2, neurons=8, scope="layer"), "bert"),
        (hc.Budget(kv_heads=2, neurons=8, scope="layer"), "llama"),
    ],
    ids=repr,
)
def test_what_is_always_possible_is_taken(budget, name):
    for seed in range(5):
        check_kept(budget, TABLES[name], seed)


def check_kept(budget, table, seed):
    """Whatever the scores: exact, within the limits, and nothing inside what is removed."""
    generator = torch.Generator().manual_seed(seed)
    removed = set()
    for pool in budget.quotas(table):
        may = allowed(pool, removed)
        scores = torch.randn(len(pool.units), generator=generator)
        keep = pool.keep(scores, allowed=may)
        assert keep.sum() == pool.num_keep
        assert not (keep & ~may).any()
        layers = pool.units.layer_of_unit[keep].bincount(minlength=len(pool.units.layers)).tolist()
        limits = zip(pool.floors, layers, pool.ceilings, strict=True)
        assert all(floor <= count <= ceiling for floor, count, ceiling in limits)
        for site, span in zip(pool.units.sites, pool.units.slices, strict=True):
            assert len(set(keep[span].view(site.num_groups, -1).sum(1).tolist())) == 1
            if site.kind in ("layer", "sublayer") and not keep[span].any():
                removed.add(site.key)


AMOUNTS = st.one_of(st.integers(0, 12), st.floats(0, 1).map(lambda share: round(share, 2)))
PLACES = st.sampled_from(["self", "cross", "ffn", "encoder", "decoder", "decoder.self"])
VALUES = st.one_of(AMOUNTS, st.dictionaries(PLACES, AMOUNTS, min_size=1, max_size=2))


@settings(max_examples=300)
@given(
    name=st.sampled_from(sorted(TABLES)),
    amounts=st.dictionaries(
        st.sampled_from(["heads", "kv_heads", "neurons", "sublayers", "layers"]),
        VALUES,
        min_size=1,
        max_size=3,
    ),
    limits=st.sampled_from([{}, {}, {"min_per_layer": 1}, {"scope": "layer"}]),
    seed=st.integers(0, 9),
)
def test_a_budget_is_refused_or_kept(name, amounts, limits, seed):
    table = TABLES[name]
    try:
        budget = hc.Budget(**amounts, **limits)
        budget.quotas(table)
    except hc.BudgetError:
        return
    check_kept(budget, table, seed)
