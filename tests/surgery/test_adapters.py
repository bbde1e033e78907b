"""PEFT's adapters before and after a cut."""

import pytest
import torch

import headcount as hc
from cases import bert, llama
from headcount.zoo.decisions import decision_of

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")

IDS = torch.arange(2, 10)[None]


def emptied(make, kind="head"):
    """A cut model whose second layer has nothing left of a kind."""
    model = make()
    units = hc.units(model, kind)
    keeps = [torch.full((site.num_units,), site.layer != 1) for site in units.sites]
    return hc.cut(model, decision_of(units, keeps))


@pytest.mark.parametrize(
    ("make", "targets"),
    [
        *((bert, targets) for targets in (["query", "value"], None, ["dense"], "all-linear")),
        *((llama, targets) for targets in (["q_proj", "o_proj", "down_proj"], None)),
    ],
)
@pytest.mark.parametrize("kind", ["head", "neuron", "sublayer"])
def test_an_adapter_leaves_an_empty_layer_empty(make, targets, kind):
    small = emptied(make, kind).eval()
    frozen = sum(parameter.numel() for parameter in small.parameters())
    with torch.no_grad():
        expected = small(IDS).logits
    config = peft.LoraConfig(target_modules=targets, r=2, init_lora_weights=False)
    tuned = peft.get_peft_model(small, config)
    names = [name for name, _ in tuned.named_parameters() if "lora_" in name]
    assert names
    base = dict(tuned.get_base_model().named_parameters())
    assert sum(value.numel() for name, value in base.items() if "lora_" not in name) == frozen
    assert not any(value.requires_grad for name, value in base.items() if "lora_" not in name)
    with torch.no_grad():
        assert not torch.allclose(tuned(IDS).logits, expected)
        with tuned.disable_adapter():
            assert torch.equal(tuned(IDS).logits, expected)
        logits = tuned(IDS).logits
    merged = tuned.merge_and_unload()
    torch.testing.assert_close(merged(IDS).logits, logits, atol=1e-5, rtol=1e-4)
    assert hc.units(merged).num("head") == hc.units(small).num("head")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: peft.LoraConfig(target_modules=["query"], layers_to_transform=[1]), "Merge the"),
        (lambda: peft.LoraConfig(target_modules=["output.dense"], use_dora=True), "Merge the"),
        (lambda: peft.IA3Config(task_type="SEQ_CLS"), "Merge the adapter"),
        (
            lambda: peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2),
            "for every head",
        ),
    ],
)
def test_an_adapter_on_what_would_be_cut_is_refused(config, message):
    tuned = peft.get_peft_model(bert(), config())
    with pytest.raises(hc.ArchitectureError, match=message):
        hc.units(tuned)


def test_an_adapter_beside_what_is_cut_is_no_obstacle():
    config = peft.LoraConfig(target_modules=["classifier", "word_embeddings"])
    tuned = peft.get_peft_model(bert(), config)
    small = hc.cut(tuned, hc.decide(tuned, hc.Random(seed=0), hc.Budget(heads=5)))
    assert hc.units(small).num("head") == 5
