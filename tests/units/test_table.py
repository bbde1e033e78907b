import pytest
from hypothesis import given
from hypothesis import strategies as st

import headcount as hc
from cases import bert, clip, llama, with_cross_attention

BERT, BOTH, GROUPED = hc.units(bert()), hc.units(with_cross_attention()), hc.units(llama())
KINDS = ("head", "kv_head", "neuron", "sublayer", "layer")
PLACES = ("encoder", "decoder", "self", "cross", "ffn", "layer", "encoder.self", "cross.decoder")
TOWERS = hc.units(clip())
TABLES = {"bert": BERT, "encoder-decoder": BOTH, "llama": GROUPED, "clip": TOWERS}


@pytest.mark.parametrize(
    ("table", "counts"),
    [
        (BERT, {"head": 12, "neuron": 96, "sublayer": 6, "layer": 3}),
        (BOTH, {"head": 36, "neuron": 192, "sublayer": 15, "layer": 6}),
        (GROUPED, {"head": 24, "kv_head": 12, "neuron": 72, "sublayer": 6, "layer": 3}),
        (TOWERS, {"head": 16, "neuron": 96, "sublayer": 8, "layer": 4}),
    ],
    ids=TABLES,
)
def test_a_table_counts_every_kind(table, counts):
    assert table.kinds == counts.keys()
    assert {kind: table.num(kind) for kind in counts} == counts
    assert len(table) == len(list(table)) == sum(counts.values())


@given(st.sampled_from(list(TABLES)), st.sets(st.sampled_from(KINDS)))
def test_only_takes_the_sites_of_the_kinds_in_their_order(name, kinds):
    table = TABLES[name]
    part = table.only(*kinds)
    assert part.sites == tuple(site for site in table.sites if site.kind in kinds)
    assert part.kinds == kinds & table.kinds
    assert all(part.num(kind) == table.num(kind) for kind in kinds)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [bert, llama])
def test_units_of_one_kind_are_the_part_of_the_table(make, kind):
    whole = hc.units(make())
    assert hc.units(make(), kind) == whole.only(kind)
    assert hc.units(make(), kind, "neuron") == whole.only(kind, "neuron")


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(
        hc.ArchitectureError, match=r"'poem'.*layer, sublayer, kv_head, head, neuron"
    ):
        hc.units(bert(), "head", "poem")


@pytest.mark.parametrize("call", ["num", "only"])
def test_a_kind_of_no_model_is_refused_and_one_that_the_model_lacks_is_not(call):
    kinds = "layer, sublayer, kv_head, head, neuron"
    with pytest.raises(hc.ArchitectureError, match=rf"{call}\('heads'\): no kind .* {kinds}\."):
        getattr(BERT, call)("heads")
    assert BERT.num("kv_head") == len(BERT.only("kv_head")) == 0


def test_a_place_of_no_model_is_refused_with_the_known_ones():
    message = r"at\('encodr\.self'\): 'encodr' is no place\. Give one of encoder, decoder, self,"
    with pytest.raises(hc.ArchitectureError, match=message):
        BERT.at("encodr.self")
    with pytest.raises(hc.ArchitectureError, match=r"'text' is no place.*text_model, vision_model"):
        TOWERS.at("text")


def test_a_part_of_a_table_knows_the_towers_of_the_whole():
    assert not TOWERS.at("text_model").at("vision_model").sites
    assert not TOWERS.only("kv_head").at("vision_model").sites


@pytest.mark.parametrize(
    ("place", "counts"),
    [
        ("", {"head": 36, "neuron": 192, "sublayer": 15, "layer": 6}),
        ("encoder", {"head": 12, "neuron": 96, "sublayer": 6, "layer": 3}),
        ("decoder", {"head": 24, "neuron": 96, "sublayer": 9, "layer": 3}),
        ("self", {"head": 24, "sublayer": 6}),
        ("cross", {"head": 12, "sublayer": 3}),
        ("ffn", {"neuron": 192, "sublayer": 6}),
        ("decoder.self", {"head": 12, "sublayer": 3}),
        ("self.decoder", {"head": 12, "sublayer": 3}),
        ("encoder.cross", {}),
    ],
)
def test_at_takes_what_lies_at_a_place(place, counts):
    part = BOTH.at(place)
    assert {kind: part.num(kind) for kind in part.kinds} == counts


@given(st.sampled_from(list(TABLES)), st.sampled_from(PLACES), st.sampled_from(PLACES))
def test_at_and_only_may_be_taken_one_after_the_other(name, one, other):
    table = TABLES[name]
    assert table.at(f"{one}.{other}") == table.at(one).at(other) == table.at(other).at(one)
    assert table.only("head").at(one) == table.at(one).only("head")


def test_a_tower_is_a_place():
    assert set(TOWERS.places) == {"text_model", "vision_model", "encoder", "self"}
    for tower in ("text_model", "vision_model"):
        part = TOWERS.at(tower)
        assert {site.tower for site in part.sites} == {tower}
        assert (part.num("head"), part.num("neuron")) == (8, 48)
        assert part.at("self").num("head") == 8
    assert {tower for tower, _, _ in TOWERS.layers} == {"text_model", "vision_model"}


@pytest.mark.parametrize(
    ("table", "places"),
    [
        (BERT, ("encoder", "self")),
        (BOTH, ("encoder", "self", "decoder", "cross")),
        (BOTH.only("neuron"), ("encoder", "decoder")),
        (BOTH.at("cross"), ("decoder", "cross")),
        (GROUPED, ("decoder", "self")),
    ],
)
def test_places_are_the_names_that_at_knows(table, places):
    assert table.places == places
    assert all(table.at(place).sites for place in places)
    assert {site for place in places for site in table.at(place).sites} == set(table.sites)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_layers_are_told_apart_by_tower_stack_and_index(table):
    assert len(table.layers) == len(set(table.layers)) == table.num("layer")
    assert {site.layer_key for site in table.sites} == set(table.layers)
    assert sum(table.num_per_layer) == len(table) == len(table.layer_of_unit)
    homes = [table.layers[i] for i in table.layer_of_unit.tolist()]
    assert homes == [unit.site.layer_key for unit in table]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_sites_have_keys_of_their_own_and_units_one_after_the_other(table):
    keys = [site.key for site in table.sites]
    assert len(set(keys)) == len(keys)
    assert [span.start for span in table.slices[1:]] == [span.stop for span in table.slices[:-1]]
    found = list(table)
    for site, span in zip(table.sites, table.slices, strict=True):
        assert [unit.index for unit in found[span]] == list(range(site.num_units))
        assert {unit.site.key for unit in found[span]} == {site.key}


def test_layers_of_an_encoder_and_a_decoder():
    expected = [("encoder", 0), ("encoder", 1), ("encoder", 2)]
    expected += [("decoder", 0), ("decoder", 1), ("decoder", 2)]
    assert [(stack, index) for _, stack, index in BOTH.layers] == expected
    assert BOTH.only("head").num_per_layer == (4, 4, 4, 8, 8, 8)
