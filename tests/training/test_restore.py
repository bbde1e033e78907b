"""Damaged checkpoints of a run: each is refused by name, before a step is taken."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

import headcount as hc
from cases import bert


class Rows(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        ids = torch.arange(5, 13) + i
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": i % 3}


class NoStep(TrainerCallback):
    """Fails when the first step begins: what is wrong has to be found before."""

    def on_step_begin(self, args, state, control, **kwargs):
        raise AssertionError("a step was begun")


def trainer(folder, *, steps=4, **settings):
    args = TrainingArguments(
        str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        save_steps=2,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **settings,
    )
    torch.manual_seed(0)
    made = hc.PruningTrainer(
        model=bert(),
        method=hc.DSP(),
        budget=hc.Budget(heads=5),
        args=args,
        train_dataset=Rows(),
    )
    made.remove_callback(PrinterCallback)
    return made


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trainer(folder, steps=2).train()
    return folder / "checkpoint-2"


def cut_short(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def emptied(folder, name):
    (folder / name).write_bytes(b"")


def other_bytes(folder, name):
    (folder / name).write_bytes(b"\x80\x04\xff\x00 not a file of this kind" * 9)


def linked(folder, name):
    (folder / name).rename(folder.parent / f"away-{name}")
    (folder / name).symlink_to(folder.parent / f"away-{name}")


def removed(folder, name):
    (folder / name).unlink()


def a_pipe(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)


FILES = (
    "model.safetensors",
    "headcount.safetensors",
    "headcount.json",
    "trainer_state.json",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
)
DAMAGES = (cut_short, emptied, other_bytes, linked, removed, a_pipe)


def refused(checkpoint, tmp_path, damage, message):
    copy = tmp_path / "checkpoint-2"
    shutil.copytree(checkpoint, copy)
    damage(copy)
    made = trainer(tmp_path)
    made.add_callback(NoStep())
    with pytest.raises(hc.CheckpointError, match=message) as error:
        made.train(str(copy))
    return str(error.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [pytest.param(d, marks=() if d in (emptied, linked) else pytest.mark.slow) for d in DAMAGES],
)
def test_a_damaged_file_is_named(checkpoint, tmp_path, damage, name):
    if (name, damage) == ("model.safetensors", removed):
        pytest.skip("a checkpoint of adapters has none")
    if name == "headcount.json" and damage in (removed, a_pipe):
        pytest.skip("it is not a complete checkpoint then")
    stem = name.partition(".")[0]
    said = refused(checkpoint, tmp_path, lambda folder: damage(folder, name), stem)
    assert "Delete that folder to resume from the checkpoint before it" in said


def changed_tensors(name, change):
    def damage(folder):
        tensors = load_file(folder / name)
        change(tensors)
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / name)

    return damage


def changed_json(name, change):
    def damage(folder):
        body = json.loads((folder / name).read_text(encoding="utf-8"))
        body = change(body) or body
        (folder / name).write_text(json.dumps(body), encoding="utf-8")

    return damage


def changed_pickle(name, change):
    def damage(folder):
        body = torch.load(folder / name, weights_only=False)
        torch.save(change(body), folder / name)

    return damage


def moments_of_others(body):
    body["state"][0]["exp_avg"] = torch.zeros(3, 3)
    return body


BIAS = "classifier.bias"
CHANGES = {
    "other shape": (
        changed_tensors("model.safetensors", lambda t: t.update({BIAS: torch.zeros(7)})),
        r"model\.safetensors: classifier\.bias is F32 of shape \(7,\), not F32 of shape \(3,\)",
    ),
    "other type": (
        changed_tensors("model.safetensors", lambda t: t.update({BIAS: t[BIAS].half()})),
        r"classifier\.bias is F16 of shape \(3,\), not F32",
    ),
    "a weight is gone": (
        changed_tensors("model.safetensors", lambda t: t.pop(BIAS)),
        r"classifier\.bias is not there, not F32 of shape \(3,\)",
    ),
    "a weight more": (
        changed_tensors("model.safetensors", lambda t: t.update(extra=torch.zeros(2))),
        r"extra is F32 of shape \(2,\), not a tensor of this run",
    ),
    "other logits": (
        changed_tensors("headcount.safetensors", lambda t: t.update(num_done=torch.zeros(2))),
        r"headcount\.safetensors: num_done is F32 of shape \(2,\)",
    ),
    "another step": (
        changed_tensors("headcount.safetensors", lambda t: t.update(num_done=torch.tensor(9))),
        r"headcount\.safetensors: num_done is 9, not the 2 of the Trainer's state",
    ),
    "the Trainer's step": (
        changed_json("trainer_state.json", lambda b: b.update(global_step=10**9)),
        r"trainer_state\.json: global_step is 1000000000, not the 2 of the folder",
    ),
    "a step below zero": (
        changed_json("trainer_state.json", lambda b: b.update(global_step=-1)),
        r"trainer_state\.json: global_step is -1, not a number of 0 or more",
    ),
    "an unknown key": (
        changed_json("trainer_state.json", lambda b: b.update(poem=1)),
        r"trainer_state\.json: it is 'poem', not a key of the Trainer's state",
    ),
    "a list": (changed_json("trainer_state.json", lambda b: [b]), "it is a list of 1, not a mapp"),
    "a list of settings": (changed_json("headcount.json", lambda b: [b]), "not a mapping"),
    "moments of others": (
        changed_pickle("optimizer.pt", moments_of_others),
        r"optimizer\.pt: exp_avg is of shape \(3, 3\), not the",
    ),
    "groups of others": (
        changed_pickle("optimizer.pt", lambda b: {**b, "param_groups": b["param_groups"][:1]}),
        r"optimizer\.pt or scheduler\.pt: cannot be loaded \(ValueError",
    ),
    "a generator of others": (
        changed_pickle("rng_state.pth", lambda b: {**b, "cpu": torch.zeros(3, dtype=torch.uint8)}),
        r"rng_state\.pth: cannot be loaded \(RuntimeError",
    ),
    "code": (
        changed_pickle("optimizer.pt", lambda b: os.path.join),
        r"optimizer\.pt or scheduler\.pt: cannot be loaded \(UnpicklingError",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_of_another_run_is_refused(checkpoint, tmp_path, name):
    damage, message = CHANGES[name]
    refused(checkpoint, tmp_path, damage, message)


def test_a_checkpoint_without_an_optimizer_is_resumed_if_none_was_saved(tmp_path):
    trainer(tmp_path, steps=2, save_only_model=True).train()
    second = trainer(tmp_path, save_only_model=True)
    second.train(True)
    assert second.session.num_done == 4


def test_a_folder_of_another_name_among_the_checkpoints_is_passed_over(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "checkpoint-2")
    shutil.copytree(checkpoint, tmp_path / "checkpoint-best")
    second = trainer(tmp_path)
    second.train(True)
    assert second.session.num_done == 4
