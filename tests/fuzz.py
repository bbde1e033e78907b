"""What the fuzz is made of: wrong calls, and mutations of files, all from fixed seeds."""

import copy
import json
import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cases import bert
from torch import nn

import headcount as hc
from headcount.reports.report import report_of
from headcount.units.decision import SiteDecision

INPUTS = {"input_ids": torch.arange(5, 29).view(3, 8), "labels": torch.arange(3) % 3}
CURVE = {"kind": "head", "modules": ("a",), "counts": (0, 4), "costs_ns": (0, 8)}


def wrong_calls() -> list[tuple[str, Callable[[], object]]]:
    """Calls of the library with something wrong in one argument, by what they say."""
    model, budget = bert(), hc.Budget(heads=5)
    decision = hc.decide(model, hc.Random(seed=0), budget)
    fisher = partial(hc.decide, model, hc.Fisher(), budget)
    calls: list[tuple[str, Callable[[], object]]] = []

    def wrong(call: Callable[..., object], base: dict[str, Any], **others: list[Any]) -> None:
        for name, values in others.items():
            for value in values:
                said = f"{getattr(call, '__name__', 'decide')}({name}={type(value).__name__} {value!r:.30})"
                calls.append((said, partial(call, **{**base, name: value})))

    nothing: list[Any] = [None, 3, "bert", [], {}]
    whole = {"model": model, "method": hc.Random(seed=0), "budget": budget}
    wrong(hc.units, {}, model=nothing)
    calls.append(("units(kind)", lambda: hc.units(model, 3)))  # pyright: ignore
    calls.append(("units(kind None)", lambda: hc.units(model, None)))  # pyright: ignore
    wrong(hc.decide, whole, model=[None, "bert", nn.Module], method=[None, "dsp", hc.DSP, hc.DSP()])
    wrong(hc.decide, whole, budget=[None, 5, "5", 0.5, {"heads": 5}, hc.Budget])
    wrong(hc.decide, whole, seed=[None, "0", 1.5, 2**70, True, [0], math.nan], progress=["print"])
    for batches in (None, "abc", 3, [None], ["abc"], [3], INPUTS, [], torch.zeros(3, 4), [{}]):
        calls.append((f"decide(batches={batches!r:.20})", partial(fisher, batches)))
    calls.append(("decide(batches=iter)", lambda: fisher(iter(["abc"]))))
    calls.append(("decide(no labels)", lambda: fisher([{"input_ids": INPUTS["input_ids"]}])))
    calls.append(("decide(lists)", lambda: fisher([{"input_ids": [[5, 6]], "labels": [0]}])))
    wrong(
        hc.attach,
        {**whole, "method": hc.DSP(), "num_steps": 4},
        num_steps=[None, "4", -1, 1.5, True],
    )
    wrong(hc.attach, {**whole, "method": hc.DSP(), "num_steps": 4}, model=nothing, budget=[3, None])
    wrong(hc.cut, {"model": model, "decision": decision}, decision=[*nothing, decision.to_json()])
    wrong(hc.cut, {"model": model, "decision": decision}, model=nothing, in_place=["yes", None, 1])
    for given in (
        {"decision": None},
        {"decision": "x"},
        {"model": None},
        {"scales": "1"},
        {"scales": [1.0]},
    ):
        args = {"model": model, "decision": decision, **given}
        calls.append((f"masked({given})", lambda args=args: hc.masked(**args).__enter__()))
    scales = torch.ones(12)
    fold = {"model": model, "decision": decision, "scales": scales}
    wrong(hc.fold, fold, scales=[None, "1", [1.0] * 12, torch.ones(3), 1.0], decision=[None, 3])
    rescale = {"model": model, "decision": decision, "batches": [INPUTS]}
    wrong(hc.rescale, rescale, batches=[None, "abc", 3, [None], ["a"], []], decision=[None, "x"])
    wrong(hc.rescale, rescale, damping=["0", -1.0, math.nan, None], largest=[0, "9"], report=["x"])
    post = {**whole, "method": hc.Fisher(), "batches": [INPUTS]}
    wrong(hc.prune_post_training, post, batches=[None, "abc", [3], INPUTS], scales=["x", None, 1])
    wrong(hc.prune_post_training, post, model=["bert"], budget=[5], seed=["x"], method=["fisher"])
    save = {"model": model, "folder": "nowhere/model"}
    wrong(
        hc.save, save, model=[None, "bert", nn.Linear(2, 2)], folder=[None, 3, b"x", torch.ones(2)]
    )
    wrong(hc.save, save, standalone=["yes", None], padded=[3])
    export = {"folder": "nowhere", "output": "nowhere.onnx"}
    wrong(hc.export, export, folder=[None, 3, "nowhere"], output=[None, 3], to=["pdf", None, 3])
    wrong(hc.export, export, batch=["8", None, -1], length=[1.5, "64"], seed=["x"], dense=[3])
    wrong(
        hc.evaluate,
        {"folder": "nowhere", "eval": ["dev.tsv"]},
        folder=[None, 3],
        eval=[None, "dev.tsv", 3, [None], []],
    )
    wrong(
        hc.evaluate,
        {"folder": "nowhere", "eval": ["dev.tsv"]},
        task=[None, 3, "poem"],
        recipe=[3, "x", hc.Recipe],
    )
    run = {"model": "nowhere", "train": ["train.tsv"], "eval": ["dev.tsv"], "budget": budget}
    wrong(
        hc.prune,
        run,
        model=[None, 3, model],
        train=[None, "train.tsv", 3, [3], []],
        eval=[None, []],
    )
    wrong(
        hc.prune,
        run,
        budget=[None, 3],
        method=["dsp", hc.DSP, 3],
        output=[3, b"x"],
        options=[3, {}, hc.Options],
    )
    wrong(hc.taught, {"dataset": 3, "teacher": model, "collator": list}, dataset=[None, "x", []])
    wrong(
        hc.latency_table,
        {"model": model},
        model=[None, "x"],
        batch=["8", 0, -1, None],
        length=["64", 0],
    )
    wrong(
        hc.latency_table,
        {"model": model},
        kinds=["head", [3], ["poem"], 3],
        shares=["x", [2.0], [None]],
        num_runs=["x", 0],
    )
    wrong(hc.Budget, {}, heads=["3", None, -1, True, math.nan, 1.5, [3], {"self": "3"}, {3: 4}, {}])
    wrong(
        hc.Budget,
        {"heads": 5},
        scope=["x", None, 3],
        min_per_layer=["1", -1, None, 1.5],
        where=[3, None],
    )
    wrong(
        hc.Budget,
        {"params": 0.5},
        kinds=["head", 3, [3], ["poem"]],
        length=["128", -1, None],
        params=["x", -1, 1.5],
    )
    wrong(
        hc.DSP,
        {},
        learning_rate=["x", None, -1, math.inf, True],
        estimator=[None, "x", hc.RelaxedTopK],
        shrinking=[3],
        training=[None, "x"],
    )
    wrong(
        hc.HardConcrete,
        {},
        pressure=[None],
        temperature=["x", 0],
        openness=["x", 2],
        settle=[None, -1],
    )
    wrong(
        hc.GradientImportance,
        {},
        share=["x", None, 0, math.nan],
        average=[None, 3],
        normalise=["x"],
    )
    wrong(hc.Annealing, {}, start=["x", None], cooldown=["x", None, 0, True], end=[-1])
    wrong(hc.Shrinking, {}, hold=["x", None], end=["x"], power=[None, 0])
    wrong(hc.Sampling, {}, hold=["x", None, 2])
    wrong(hc.L0Penalty, {}, weight=["x", None, -1])
    wrong(hc.Lagrangian, {}, warmup=["x", None], stiffness=["x", math.nan])
    wrong(hc.LayerDrop, {}, drop=["x", None, 1])
    wrong(hc.Random, {}, seed=["x", 1.5, -1, [0]])
    wrong(hc.Fisher, {}, order=["x", None, 3], average=[3])
    wrong(
        hc.Recipe,
        {},
        epochs=["3", None, 0, math.nan, True],
        batch_size=["x", 1.5, 0],
        warmup=["x"],
        seed=["x", -1, 2**40],
        max_length=[None],
        save_steps=[0.5],
    )
    wrong(
        hc.Options,
        {},
        recipe=[None, {}, 3],
        baselines=["dense", [3], ["poem"], None],
        latency_batch=["x", None],
        recover_epochs=["x"],
        resume=["yes"],
        console=[3],
    )
    wrong(hc.Distillation, {}, weight=["x", None, 2], temperature=["x", math.inf])
    wrong(
        hc.Curve,
        dict(CURVE),
        counts=[None, "04", [0, "4"], (0.5, 4)],
        modules=["a", None],
        kind=[3],
        costs_ns=[(0, -1), (0, "8"), None],
    )
    table = {"whole_ns": 100, "curves": (hc.Curve(**CURVE),), "batch": 8, "length": 64}
    wrong(
        hc.LatencyTable,
        table,
        whole_ns=["x", -1, None, math.nan],
        curves=[None, [3], "x"],
        batch=[-1, "8"],
    )
    wrong(hc.Decision, {}, sites=[None, 3, [3], "x"])
    wrong(
        SiteDecision,
        {
            "module": "a",
            "kind": "head",
            "layer": 0,
            "stack": "encoder",
            "keep": (True,),
            "scores": (0.0,),
        },
        keep=[None, "1", (1,)],
        scores=[None, ("x",), (math.nan,), ()],
        layer=["x"],
    )
    for reader in (hc.Decision.load, hc.LatencyTable.load, report_of):
        for value in (None, 3, b"x", "nowhere", "."):
            calls.append((f"{reader.__qualname__}({value!r})", partial(reader, value)))
    for reader in (hc.Decision.from_json, hc.LatencyTable.from_json):
        for value in (None, 3, b"{}", "", "[]", "null"):
            calls.append((f"{reader.__qualname__}({value!r})", partial(reader, value)))
    trainer = {"model": model, "method": hc.DSP(), "budget": budget}
    wrong(
        hc.PruningTrainer,
        trainer,
        model=["bert", 3],
        args=["out", {}],
        method=["dsp"],
        budget=[5],
        distillation=[0.5, "x"],
    )
    return calls
