"""Short runs of ``PruningTrainer`` that tests share."""

import torch
from torch.utils.data import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

import headcount as hc
from cases import bert


class Rows(Dataset):
    """Thirty-two rows whose label is their second token."""

    def __len__(self):
        return 32

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        ids = torch.randint(5, 40, (8,), generator=generator)
        ids[1] = 5 + i % 3
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": i % 3}


class Uneven(Rows):
    """The same rows, of two to eight tokens."""

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError(i)
        row = super().__getitem__(i)
        return {**row, "input_ids": row["input_ids"][: 2 + i % 7], "number": i}


class Seeing:
    """A collator that remembers which rows it was given, batch by batch."""

    def __init__(self):
        self.batches = []

    def __call__(self, rows):
        self.batches.append([row["number"] for row in rows])
        ids = torch.nn.utils.rnn.pad_sequence([r["input_ids"] for r in rows], batch_first=True)
        labels = torch.tensor([row["labels"] for row in rows])
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


class StopAt(TrainerCallback):
    """Ends the run like a kill: nothing after this step happens."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def trainer(
    folder,
    *,
    method=None,
    heads=5,
    steps=8,
    model=None,
    callbacks=(),
    budget=None,
    rows=None,
    collator=None,
    distillation=None,
    **settings,
):
    usual = {
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": 2,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    args = TrainingArguments(str(folder), **{**usual, **settings})
    torch.manual_seed(0)
    made = hc.PruningTrainer(
        model=model or bert(),
        method=method or hc.DSP(),
        budget=budget or hc.Budget(heads=heads),
        args=args,
        train_dataset=rows or Rows(),
        eval_dataset=Rows(),
        data_collator=collator,
        distillation=distillation,
        callbacks=list(callbacks),
    )
    made.remove_callback(PrinterCallback)
    return made
