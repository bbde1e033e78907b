"""The checks of one model type on a tiny model: units, masked against cut, pickling, export."""

import copy
import re
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, set_seed

from headcount.architectures.discover import units as find_units
from headcount.architectures.sublayers import find_sublayers
from headcount.errors import ArchitectureError, PruningError
from headcount.surgery.cut import cut
from headcount.surgery.masked import masked
from headcount.units.decision import Decision
from headcount.units.kinds import ALL, KINDS, SLICES, WHOLE
from headcount.units.table import UnitTable
from headcount.zoo.decisions import random_decision
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import equal_bits, largest_difference, tensors_of
from headcount.zoo.precision import Throughout
from headcount.zoo.records import DENSE, SAME, Outcome, Record
from headcount.zoo.tiny import CannotBuild, tiny_model
from headcount.zoo.variants import type_of

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
"""The largest difference between a masked and a cut model that passes. It is absolute in float64;
in float32 it is relative to the largest number of each tensor, if that is above 1."""

ROUNDING = 1e-4
"""Below this, a difference may be due to float32, in which many models compute some steps."""

EXPORT_TOLERANCE = 1e-4
"""The largest absolute difference between an exported model and PyTorch that passes."""

ONNX = ("onnx", "onnxscript", "onnxruntime")
"""Packages that the export needs."""

LONGEST = 200
"""Characters of an error message that are kept."""

SEEDS = 40
"""Seeds that are tried to find a decision that keeps and removes units of every kind."""

Drawn = tuple[tuple[str, ...], bool]
"""(kinds of unit, whether the first site of each kind keeps nothing)."""

MIXTURES: tuple[Drawn, ...] = (
    (KINDS, False),
    (KINDS, True),
    (KINDS[1:], False),  # removed sublayers in layers that stay
    (SLICES, True),  # empty sites in sublayers that stay
)

EMPTY: tuple[Drawn, ...] = tuple(((name,), True) for name in SLICES)
"""Each kind of slice alone, with an empty site."""

UNEVEN: tuple[Drawn, ...] = (*(((name,), False) for name in SLICES), *EMPTY)
"""Each kind of slice alone, without and with an empty site."""

MODULES: tuple[Drawn, ...] = tuple(((name,), empty) for name in WHOLE for empty in (False, True))
"""Each kind of whole module alone."""

DECISIONS: dict[str, tuple[Drawn, ...]] = {
    **{kind.plural: (((kind.name,), False), ((kind.name,), True)) for kind in ALL},
    "mixture": MIXTURES,
}
"""Check of masked against cut -> the kinds that its decisions remove."""

TWICE: tuple[Drawn, ...] = ((("head",), True), MIXTURES[0], MIXTURES[3])
"""The kinds removed from models that are cut twice or pickled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A tiny model whose units were found."""

    single: PreTrainedModel
    """In float32."""
    model: PreTrainedModel
    """In float64, if its forward pass works in it; else ``single``."""
    reference: Any
    """The output of ``model``."""
    units: UnitTable
    """Its units."""

    def decisions(self, drawn: tuple[Drawn, ...]) -> tuple[Decision, ...]:
        """One decision for each entry whose kinds the model has."""
        parts = [(self.units.only(*kinds), empty) for kinds, empty in drawn]
        return tuple(telling_decision(part, empty=empty) for part, empty in parts if part.sites)


def build(record: Record, found: dict[str, Any]) -> Outcome:
    """Build the tiny model of a type in float32, as ``found["single"]``."""
    model = tiny_model(record.model_type)
    if type_of(record.model_type) != record.model_type and _same(model, record):
        return Outcome(state="none", reason=SAME)
    found["single"] = model
    return Outcome(state="ok")


def _same(model: PreTrainedModel, record: Record) -> bool:
    """Whether a variant has the default's modules and shapes, and the same output."""
    default = tiny_model(type_of(record.model_type))
    states = model.state_dict(), default.state_dict()
    shapes, others = ({name: x.shape for name, x in state.items()} for state in states)
    classes, theirs = ([type(module) for module in m.modules()] for m in (model, default))
    if classes != theirs or shapes != others:
        return False
    try:
        return equal_bits(forward(model), forward(default))
    except Exception:  # then the check of the forward pass says so
        return False


def run(record: Record, found: dict[str, Any]) -> Outcome:
    """Run the model in float64, or in float32 if float64 does not work."""
    single, why = found["single"], ""
    try:
        # Rounding in float64 is far below any real difference between masked and cut.
        found["model"] = copy.deepcopy(single).double()
        found["reference"] = forward(found["model"])
        if not _is_finite(found["reference"]):
            raise FloatingPointError("it puts out no finite number")
    except CannotBuild:
        raise
    except Exception as error:
        why = f"in float32 only; in float64: {in_one_line(error)}"
        found["model"], found["reference"] = single, forward(single)
    if not _is_finite(found["reference"]):
        return Outcome(state="fails", reason="puts out no finite number")
    return Outcome(state="ok", reason=why)


def find(record: Record, found: dict[str, Any]) -> Outcome:
    """Find the units of the model, as ``found["units"]``."""
    try:
        found["units"] = find_units(found["model"])
    except ArchitectureError as error:
        state = "refused" if _has_known_attention(found["model"]) else "none"
        return Outcome(state=state, reason=" ".join(str(error).split()))
    return Outcome(state="ok")


def _has_known_attention(model: PreTrainedModel) -> bool:
    try:
        return any(sublayer.attention is not None for sublayer in find_sublayers(model))
    except ArchitectureError:  # some attention is known, and was refused
        return True


def facts(found: dict[str, Any]) -> dict[str, Any]:
    """The facts of a record about a model, as far as it got.

    ``attention`` lists classes that have attention in their name, or in which heads were found.
    """
    single, model, units = (found.get(name) for name in ("single", "model", "units"))
    if single is None:
        return {}
    sites = units.only("head").sites if units else ()
    names = {type(module).__name__ for module in single.modules()}
    attention = {name for name in names if re.search("attention|attn", name.lower())}
    attention |= {type(single.get_submodule(site.module)).__name__ for site in sites}
    return {
        "model_class": type(single).__name__,
        "attention": tuple(sorted(attention)),
        "dtype": str(model.dtype).removeprefix("torch.") if model is not None else "",
        "units": {kind: units.num(kind) for kind in KINDS if units.num(kind)} if units else {},
    }


def telling_decision(units: UnitTable, *, empty: bool) -> Decision:
    """A random decision that keeps and removes units of every kind, unevenly over the sites.

    Only such a decision can show that masked and cut models differ.

    Args:
        units: sites of one or several kinds.
        empty: whether the first site of each kind keeps nothing.

    Returns:
        The decision of the first seed that gives such a one; if none does, of the first seed.
    """
    options = [random_decision(units, seed=0, empty=empty)]
    while not _tells(options[-1], empty) and len(options) < SEEDS:
        options.append(random_decision(units, seed=len(options), empty=empty))
    return options[-1] if _tells(options[-1], empty) else options[0]


def _saved_and_loaded(model: PreTrainedModel) -> PreTrainedModel:
    file = BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def _tells(decision: Decision, empty: bool) -> bool:
    # Units of each kind are kept and removed, in different numbers from site to site: equal numbers
    # would not show a count that is taken from the wrong layer.
    for kind in decision.kinds:
        keeps = [site.keep for site in decision.sites if site.kind == kind]
        kept, total = sum(map(sum, keeps)), sum(map(len, keeps))
        even = len({sum(keep) for keep in keeps if any(keep) or not empty}) == 1
        if total > 1 and (not 0 < kept < total or (even and len(keeps) > 1 + empty)):
            return False
    return True


def forward(model: PreTrainedModel) -> Any:
    """One forward pass. Random steps in it have the same seed each time."""
    inputs = dummy_inputs(model)
    set_seed(0)
    with torch.no_grad():
        return model(**inputs)


def _is_finite(output: Any) -> bool:
    return any(bool(tensor.isfinite().any()) for _, tensor in tensors_of(output))


def over(decisions: Iterable[Decision], failure: Callable[[Decision], str]) -> Outcome:
    """Check each decision. If headcount refuses one, the others are still checked.

    Args:
        decisions: the decisions to check.
        failure: returns what is wrong with a decision; empty if nothing is.
    """
    decisions, refused = tuple(decisions), ""
    if not decisions:
        return Outcome(state="none", reason="no such units")
    for decision in decisions:
        try:
            if why := failure(decision):
                return Outcome(state="fails", reason=why)
        except PruningError as error:
            refused = in_one_line(error)
    return Outcome(state="refused" if refused else "ok", reason=refused)


def masked_is_cut(subject: Subject, drawn: tuple[Drawn, ...]) -> Outcome:
    """Compare the outputs of the masked and the cut model, for each decision."""
    # If no output differs from the dense model's, the comparison says nothing: the record notes it.
    changes: list[bool] = []

    def failure(decision: Decision) -> str:
        gap, output = _gap(subject.model, decision)
        changes.append(not equal_bits(output, subject.reference))
        return gap

    outcome = over(subject.decisions(drawn), failure)
    unchanged = outcome.state == "ok" and not any(changes)
    return replace(outcome, reason="no output changes") if unchanged else outcome


def _gap(model: PreTrainedModel, decision: Decision) -> tuple[str, Any]:
    """(what is wrong with a cut model compared with the masked one, the output of the latter)."""
    gap, output = _compared(model, decision)
    if not _is_finite(output):
        return "masked, it puts out no finite number", output
    # A small gap may be rounding: then all of it is computed in float64, with the strict tolerance.
    room = TOLERANCES[model.dtype]
    if room < gap < ROUNDING:
        with suppress(RuntimeError), Throughout():  # an operation may have no float64
            gap, _ = _compared(copy.deepcopy(model).double(), decision)
            return _if_over(gap, TOLERANCES[torch.float64]), output
    return _if_over(gap, room), output


def _if_over(gap: float, room: float) -> str:
    return "" if gap <= room else f"differs by {gap:.1g}"


def _compared(model: PreTrainedModel, decision: Decision) -> tuple[float, Any]:
    """(largest difference between a cut model and the masked one, the output of the latter).

    In float32, the difference is relative to the largest number of each tensor, if that exceeds 1.
    """
    with masked(model, decision):
        output = forward(model)
    small = forward(cut(model, decision))
    if model.dtype == torch.float64:
        return largest_difference(output, small), output
    mine, theirs = dict(tensors_of(output)), dict(tensors_of(small))
    sizes = {name: max(1.0, float(x.abs().max())) for name, x in mine.items() if x.numel()}
    scaled = ({name: x / sizes.get(name, 1.0) for name, x in out.items()} for out in (mine, theirs))
    return largest_difference(*scaled), output


def twice(subject: Subject) -> Outcome:
    """Compare masked and cut for decisions about models that were cut before."""

    def failure(decision: Decision) -> str:
        small = cut(subject.model, decision)
        units = find_units(small)
        again = telling_decision(units.only(*decision.kinds), empty=False)
        return _gap(small, again)[0] if again.sites else ""

    return over(subject.decisions(TWICE), failure)


def pickled(subject: Subject) -> Outcome:
    """Compare a cut model with itself after ``torch.save`` and ``torch.load``."""

    def failure(decision: Decision) -> str:
        small = cut(subject.single, decision)
        again = _saved_and_loaded(small)  # before the forward pass, which may leave hooks
        gap = largest_difference(forward(small), forward(again))
        return "" if gap == 0.0 else f"outputs differ by {gap:.1g}"

    try:
        _saved_and_loaded(subject.single)
    except Exception as error:  # parametrised weights, for one
        return Outcome(state="none", reason=f"{DENSE}: {in_one_line(error)}")
    return over(subject.decisions(TWICE), failure)


def exports(subject: Subject, *, wanted: bool) -> Outcome:
    """Export the cut model to ONNX and compare its outputs with PyTorch's."""
    missing = [name for name in ONNX if find_spec(name) is None]
    if not wanted or missing:
        why = f"not installed: {', '.join(missing)}" if wanted else "not asked for"
        return Outcome(state="unchecked", reason=why)
    (decision,) = subject.decisions(((SLICES, False),))
    try:
        gap = _export_gap(cut(subject.single, decision))
    except Exception as error:
        raise error.__cause__ or error from None
    if not gap <= EXPORT_TOLERANCE:
        return Outcome(state="fails", reason=f"differs by {gap:.1g}")
    return Outcome(state="ok")


class _Floats(nn.Module):
    """A model as a function from tensors to all floating-point tensors of its output."""

    def __init__(self, model: PreTrainedModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        output = self.model(**dict(zip(self.names, tensors, strict=True)))
        return tuple(tensor for _, tensor in tensors_of(output))


def _export_gap(model: PreTrainedModel) -> float:
    """The largest difference between ONNX Runtime and PyTorch, on inputs that were not traced.

    On the traced inputs, a constant that tracing has written into the program would go unnoticed.
    """
    import onnxruntime

    model.set_attn_implementation("eager")  # its mask has no infinities
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            part.config.use_cache = False
    traced, other = dummy_inputs(model), dummy_inputs(model, seed=1)
    function = _Floats(model, tuple(traced))
    with TemporaryDirectory() as folder, torch.no_grad():
        program = torch.onnx.export(
            function, tuple(traced.values()), dynamo=True, verbose=False, input_names=list(traced)
        )
        assert program is not None
        program.save(f"{folder}/model.onnx")
        session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
        used = {port.name for port in session.get_inputs()}
        arrays = {name: tensor.numpy() for name, tensor in other.items() if name in used}
        outputs = tuple(torch.tensor(output) for output in session.run(None, arrays))
        return largest_difference(outputs, function(*other.values()))


def in_one_line(error: BaseException) -> str:
    """An error as one line: without folders, which differ by machine, but with file and line.

    Example:
        >>> in_one_line(CannotBuild("needs the package timm"))
        'needs the package timm'
        >>> in_one_line(OSError("no file /some/where/model.bin"))
        'OSError: no file model.bin'
    """
    text = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
    text = re.sub(r"(?<![\w.:~/])(?:/[\w.+-]+)+/([\w.+-]+)", r"\1", text)
    if isinstance(error, CannotBuild):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text[:LONGEST]}{where}"
