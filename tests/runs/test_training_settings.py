"""Training settings of a recipe: which are taken, and what each wrong one is told."""

import dataclasses
import math

import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import SchedulerType

import headcount as hc
from cases import bert
from headcount.runs.training_settings import GIVE, LEAVES_NO_TRACE, REFUSED, checked, with_trace

FIELDS = [field for field in dataclasses.fields(TrainingArguments) if field.init]
NAMES = {field.name for field in FIELDS}


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"bf17": True}, r"no such field in TrainingArguments\. Did you mean bf16, fp16\?"),
        ({"zzz": 1}, r"no such field in TrainingArguments\. Look up its name there\."),
        ({"num_train_epochs": 3}, r"'num_train_epochs': 3}\): .*Give epochs \(--epochs\) instead"),
        ({"epochs": 3}, r"Give epochs \(--epochs\) instead"),
        ({"warmup_steps": 0.1}, r"Give warmup \(on the command line --set warmup_steps"),
        ({"weight_decay": 0.1}, "Give weight_decay"),
        ({"per_device_train_batch_size": 4}, r"Give batch_size \(--batch-size\)"),
        ({"output_dir": "x"}, r"Give output \(--output\)"),
        ({"seed": 3}, r"Give seed \(--seed; in a comparison --seeds\)"),
        ({"push_to_hub": True}, "the whole model.* Upload the folder of the result"),
        ({"hub_model_id": "a/b"}, "Upload the folder of the result"),
        ({"hub_token": "secret"}, r"'hub_token': \.\.\.}\): "),
        ({"fsdp": "full_shard"}, "shards of weights cannot be cut"),
        ({"deepspeed": {}}, "shards of weights cannot be cut"),
        ({"ddp_timeout": 3}, "a run trains in one process"),
        ({"train_sampling_strategy": "random"}, "grouped by length"),
        ({"save_only_model": True}, "would not end as one that was never stopped"),
        ({"auto_find_batch_size": True}, "a smaller batch would change the result"),
        ({"lr_scheduler_type": "cosin"}, r"no such value\. Did you mean cosine\?"),
        ({"eval_strategy": "q"}, r"no such value\. Give one of no, steps, epoch\."),
        ({"optim": "galore_adamw_layerwise"}, "in the backward pass"),
        ({"max_steps": 0}, "give a number of 1 or more"),
        ({"max_grad_norm": math.inf}, "give a number of 0 or more"),
        ({"gradient_accumulation_steps": -1}, "give a number of 1 or more"),
        ({"label_smoothing_factor": 3}, "give a number from 0 to 1"),
        ({"eval_steps": -2}, "give a number of 0 or more"),
    ],
)
def test_what_cannot_be_set_says_what_to_do(training, message):
    with pytest.raises(hc.TrainingError, match=message) as found:
        hc.Recipe(training=training)
    assert "secret" not in str(found.value)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"bf16": "yes"}, "'bf16': 'yes'}.: give true or false"),
        ({"bf16": 1}, "give true or false"),
        ({"max_steps": 2.5}, "give a whole number"),
        ({"max_steps": None}, "give a whole number"),
        ({"max_grad_norm": "1"}, "give a number"),
        ({"adam_epsilon": math.nan}, "give values that JSON can hold"),
        ({"eval_strategy": True}, "no text. Give one of no, steps, epoch"),
        ({"lr_scheduler_kwargs": "kwargs.json"}, "give a mapping or None"),
        ({"lr_scheduler_kwargs": {"a": {1, 2}}}, "give values that JSON can hold"),
        ({"report_to": 3}, "give None or a text or a list"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(training, message):
    with pytest.raises(hc.ArgumentError, match=message):
        hc.Recipe(training=training)


def test_training_is_a_mapping():
    with pytest.raises(hc.ArgumentError, match=r"Recipe\(training=.*give a mapping"):
        hc.Recipe(training=["bf16"])


@pytest.mark.parametrize("field", [f for f in FIELDS if f.name not in {*GIVE, *REFUSED}],
                         ids=lambda f: f.name)  # fmt: skip
def test_the_default_of_every_other_field_is_taken(field):
    made = field.default_factory() if field.default is dataclasses.MISSING else field.default
    if field.name.startswith(("hub_", "ddp_")):
        with pytest.raises(hc.TrainingError):
            checked({field.name: made})
    elif made == -1:  # of max_steps: all epochs
        assert field.name == "max_steps"
    else:
        assert checked({field.name: made}) == {field.name: made}


def test_the_tables_name_fields_of_transformers():
    assert {*GIVE} - {"epochs", "batch_size", "max_length", "warmup"} <= NAMES
    newer = {"activation_checkpointing", "trackio_bucket_id", "trackio_static_space_id"}
    assert {*REFUSED, *LEAVES_NO_TRACE} - newer <= NAMES
    assert not {*GIVE} & {*REFUSED}


def test_equal_settings_have_one_form():
    given = {"lr_scheduler_type": SchedulerType.COSINE, "max_grad_norm": 2, "eval_strategy": False}
    recipe = hc.Recipe(training=given)
    assert recipe.training == {
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 2.0,
        "eval_strategy": "no",
    }
    assert type(recipe.training["lr_scheduler_type"]) is str
    assert type(recipe.training["max_grad_norm"]) is float
    assert recipe == hc.Recipe(training=recipe.training)
    assert hash(recipe) == hash(hc.Recipe())


def test_a_recipe_keeps_its_own_copy():
    kwargs = {"min_lr": 1e-5}
    given = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": kwargs}
    recipe = hc.Recipe(training=given)
    kwargs["min_lr"], given["bf16"] = 1.0, True
    assert recipe.training["lr_scheduler_kwargs"] == {"min_lr": 1e-5}
    assert "bf16" not in recipe.training


def test_settings_reach_the_trainer_and_replace_what_headcount_chooses(tmp_path):
    training = {"gradient_accumulation_steps": 4, "logging_steps": 7, "adam_beta2": 0.98}
    args = hc.Recipe(epochs=2, warmup=30, training=training).arguments(tmp_path)
    assert (args.gradient_accumulation_steps, args.logging_steps, args.adam_beta2) == (4, 7, 0.98)
    assert (args.num_train_epochs, args.get_warmup_steps(100), args.save_total_limit) == (2, 30, 2)
    assert hc.Recipe().arguments(tmp_path).get_warmup_steps(100) == 10


@pytest.mark.parametrize("warmup", [-0.1, 1.5, math.inf])
def test_warm_up_is_a_share_or_a_number_of_steps(warmup):
    with pytest.raises(hc.TrainingError, match=r"give a share of the steps in \[0, 1\)"):
        hc.Recipe(warmup=warmup)


def test_what_leaves_no_trace_may_change():
    base = hc.Recipe(training={"bf16": True})
    logged = {"bf16": True, "report_to": "tensorboard", "logging_steps": 3, "run_name": "a"}
    assert hc.Recipe(training=logged).described() == base.described()
    assert base.described() != hc.Recipe().described()
    assert "training" not in hc.Recipe().plain()
    # Evaluation draws random numbers, and it comes at the steps of logging if it has none.
    assert with_trace({"eval_strategy": "steps", "logging_steps": 3})["logging_steps"] == 3
    assert "logging_steps" not in with_trace({"eval_strategy": "steps", "eval_steps": 2.0})


def test_the_best_checkpoint_depends_on_which_are_written():
    best = hc.Recipe(training={"load_best_model_at_end": True, "save_strategy": "epoch"})
    assert best.described()["training"]["save_strategy"] == "epoch"
    assert "save_steps" in best.described(but=("save_steps",))
    assert "save_steps" not in hc.Recipe().described(but=("save_steps",))


def test_measuring_knows_the_device_alone():
    training = {"use_cpu": True, "bf16": True, "torch_compile": True, "eval_strategy": "epoch"}
    assert hc.Recipe(training=training).for_measuring().training == {"use_cpu": True}
    assert hc.Recipe(training={"tf32": True}).for_measuring().training == {"tf32": False}


@pytest.mark.parametrize("rows", [9, 31])
@pytest.mark.parametrize(
    "training",
    [{}, {"max_steps": 5}, {"gradient_accumulation_steps": 3}, {"dataloader_drop_last": True}],
    ids=str,
)
def test_steps_are_counted_as_the_trainer_counts_them(tmp_path, rows, training):
    recipe = hc.Recipe(epochs=1.5, batch_size=8, training=training)
    data = Dataset.from_dict({"input_ids": [[5, 6, 7]] * rows, "labels": [0] * rows})
    args = recipe.arguments(tmp_path)
    trainer = Trainer(bert(), args, train_dataset=data)
    trainer.train()
    assert trainer.state.global_step == recipe.num_steps(rows, args.train_batch_size)
    assert torch.isfinite(torch.tensor(trainer.state.log_history[-1]["train_loss"]))
