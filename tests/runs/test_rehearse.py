"""Settings that only the machine, the Trainer or a method can refuse."""

import pytest

import headcount as hc
from cases import bert
from headcount.runs.rehearse import check_trainable, rehearse


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"fp16": True, "bf16": True, "use_cpu": True}, "At most one of fp16 and bf16"),
        ({"load_best_model_at_end": True}, "requires the save and eval strategy to match"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "One of min_lr or min_lr_rate should be set"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "requires an eval strategy"),
        ({"adam_beta1": 3.0}, "Invalid beta parameter"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_num_workers > 0"),
        ({"report_to": "paper"}, "paper is not supported, only "),
        ({"log_level": "loud"}, "KeyError 'loud'"),
        ({"accelerator_config": {"foo": 1}}, "unexpected keyword argument 'foo'"),
    ],
    ids=str,
)
def test_what_the_trainer_refuses_is_an_error_of_headcount(training, message):
    with pytest.raises(hc.TrainingError, match=f"transformers refuses this here: .*{message}"):
        rehearse(hc.Recipe(training=training), [hc.Random()])


def test_a_reporter_that_is_not_installed_is_named(monkeypatch):
    from transformers.integrations import integration_utils

    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: False)
    with pytest.raises(hc.TrainingError, match="requires tensorboard to be installed"):
        rehearse(hc.Recipe(training={"report_to": "tensorboard"}), [hc.DSP()])


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"label_smoothing_factor": 0.1, "optim": "adafactor"},
        {"eval_strategy": "steps", "eval_steps": 2},
        {"bf16": True, "use_cpu": True},
        {"optim": "galore_adamw", "optim_target_modules": ["attn"]},  # modules of the real model
    ],
    ids=str,
)
def test_what_goes_is_let_through_and_leaves_nothing(training, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rehearse(hc.Recipe(training=training), [hc.DSP()])
    assert list(tmp_path.iterdir()) == []


def test_a_method_that_learns_has_no_best_checkpoint():
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 100}
    recipe = hc.Recipe(training=best)
    rehearse(recipe, [hc.Random()])
    with pytest.raises(hc.TrainingError, match="dsp has its final decision only at the last step"):
        rehearse(recipe, [hc.Random(), hc.DSP()])


def test_a_model_without_checkpointing_is_refused(monkeypatch):
    recipe = hc.Recipe(training={"gradient_checkpointing": True})
    model = bert()
    check_trainable(recipe, model)
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    check_trainable(hc.Recipe(), model)
    with pytest.raises(hc.TrainingError, match=r"has no gradient checkpointing\. Leave it out"):
        check_trainable(recipe, model)
