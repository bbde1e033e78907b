"""What a check makes of rounding, and of models that are wrong before they are cut."""

import copy

import pytest
import torch

import headcount as hc
from headcount.zoo import checks, folders
from headcount.zoo.checks import masked_is_cut, pickled
from headcount.zoo.precision import Throughout
from headcount.zoo.records import DENSE, Outcome
from headcount.zoo.survey import check_type
from headcount.zoo.tiny import tiny_model


def subject_of(name):
    single = tiny_model(name)
    model = copy.deepcopy(single).double()
    reference = checks.forward(model)
    return checks.Subject(single=single, model=model, reference=reference, units=hc.units(model))


def test_float64_throughout():
    wide = torch.full((2,), 1 / 3, dtype=torch.float64)
    with Throughout():
        assert wide.float().dtype == wide.to(torch.float32).dtype == torch.float64
        assert torch.softmax(wide, 0, dtype=torch.float32).dtype == torch.float64
        assert torch.ones(1).float().dtype == torch.float32
    assert wide.float().dtype == torch.float32


def test_rounding_inside_of_a_model_is_told_from_a_fault(monkeypatch):
    subject = subject_of("granite_swa")  # its norms and scores are rounded to float32
    assert masked_is_cut(subject, checks.DECISIONS["mixture"]).state == "ok"
    original = checks.cut

    def wrong(model, decision):
        small = original(model, decision)
        with torch.no_grad():
            next(small.parameters()).add_(1e-6)
        return small

    monkeypatch.setattr(checks, "cut", wrong)
    outcome = masked_is_cut(subject, checks.DECISIONS["mixture"])
    assert outcome.state == "fails"
    assert "differs by" in outcome.reason


def test_hooks_that_a_pass_leaves_behind_are_not_pickled():
    assert pickled(subject_of("colpali")).state == "ok"


@pytest.mark.parametrize(
    ("dense", "state"), [(["", "", ""], "fails"), (["", "differs"], "none"), (["differs"], "none")]
)
def test_a_model_that_fails_before_it_is_cut(dense, state):
    found = iter(dense)
    outcome = folders._unless_dense_fails(Outcome(state="fails", reason="x"), lambda: next(found))
    assert outcome.state == state
    assert outcome.reason == ("x" if state == "fails" else f"{DENSE}: differs")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "blt",  # its code divides by widths when it initialises
        "informer",  # a list of its layers holds None
        "musicgen",  # two text configurations
        "sam2",  # layers of two streams
        "video_llava",  # two towers of one configuration
        "prophetnet",  # no finite number in float64
        "bailing_hybrid",
        "zamba[num_key_value_heads=1]",  # weights that are shared with a removed layer
    ],
)
def test_types_that_were_wrong(name):
    record = check_type(name, onnx=False)
    assert record.verdict in ("exact", "refused"), record.checks
