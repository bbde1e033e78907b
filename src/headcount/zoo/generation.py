"""Check that masked and cut models generate the same tokens."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, set_seed

from headcount.surgery.cut import cut
from headcount.surgery.masked import masked
from headcount.units.decision import Decision
from headcount.zoo.checks import EMPTY, TOLERANCES, Subject, in_one_line, over
from headcount.zoo.inputs import generation_inputs
from headcount.zoo.outputs import tensors_of
from headcount.zoo.records import DENSE, Outcome

NEW_TOKENS = 6
"""Tokens that a model generates."""


def generates(subject: Subject, **settings: Any) -> Outcome:
    """Compare the tokens of the masked and the cut model, in float64 if the dense model can."""
    if not subject.model.can_generate():
        return Outcome(state="none", reason="does not generate")
    why = ""
    models = [subject.model] if _all_finite(subject.model) else []
    for model in dict.fromkeys((*models, subject.single)):
        try:
            _generate(model, settings)
        except Exception as error:
            why = f"{DENSE}: {in_one_line(error)}"
            continue
        # Attention without heads must still keep its cache.
        return over(subject.decisions(EMPTY), partial(_other_tokens, model, settings))
    return Outcome(state="none", reason=why)


def _other_tokens(model: PreTrainedModel, settings: dict[str, Any], decision: Decision) -> str:
    with masked(model, decision):
        tokens = _generate(model, settings)
    again = _generate(cut(model, decision), settings)
    return "" if same(tokens, again, TOLERANCES[model.dtype]) else "other tokens"


def _all_finite(model: PreTrainedModel) -> bool:
    """Whether outputs are finite, also at padding.

    Otherwise the comparison is meaningless: a gate of zero times nan is nan, and a removed unit is
    not.
    """
    inputs = generation_inputs(model) or {}
    try:
        with torch.no_grad():
            output = model(**inputs)
    except Exception:  # some take other arguments than generate does
        return True
    return all(bool(tensor.isfinite().all()) for _, tensor in tensors_of(output))


def _generate(model: PreTrainedModel, settings: dict[str, Any]) -> list[Tensor]:
    inputs = generation_inputs(model) or {}
    generate: Any = model.generate
    set_seed(0)
    with torch.no_grad():
        made = generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False, **settings)
    return list(_leaves(made))


def _leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _leaves(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)


def same(mine: list[Tensor], theirs: list[Tensor], room: float) -> bool:
    """Whether integers, such as tokens, are equal, and floats differ by at most ``room``."""
    if [tensor.shape for tensor in mine] != [tensor.shape for tensor in theirs]:
        return False
    for one, other in zip(mine, theirs, strict=True):
        most = room if one.is_floating_point() else 0.0
        if not torch.allclose(one, other, rtol=0.0, atol=most, equal_nan=True):
            return False
    return bool(mine)
