"""Run the collectors that a method needs around the passes of a model."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, final, get_args

import torch
from torch import Tensor, nn

from headcount.errors import TrainingError
from headcount.evidence.attention_maps import AttentionMaps
from headcount.evidence.collector import Call, Collector, PassCollector, When
from headcount.evidence.gate_grads import GateGrads
from headcount.evidence.output_norms import OutputNorms
from headcount.evidence.outputs import Outputs, WholeOutputs
from headcount.evidence.weights import WeightNorms
from headcount.gates.modes import evaluating
from headcount.units.table import UnitTable

COLLECTORS: dict[str, type[Collector]] = {
    kind.field: kind
    for kind in (WeightNorms, GateGrads, AttentionMaps, WholeOutputs, OutputNorms, Outputs)
}
"""Every kind of evidence, by its field in ``Evidence``."""


IN_PHASE: dict[str, tuple[When, ...]] = {
    "at once": ("once",),
    "from data": get_args(When),
    "in training": ("once", "before a pass", "in a pass", "after a pass"),
}
"""When evidence may be taken for a method, by its phase."""


def check_evidence(name: str, phase: str, fields: frozenset[str]) -> None:
    """Refuse evidence that a method would never be shown.

    Args:
        name: the method's class, for the message.
        phase: ``Method.phase``.
        fields: ``Method.evidence``.

    Raises:
        TrainingError: there is no such phase or evidence, or the phase has no time for it.

    Example:
        >>> check_evidence("Mine", "at once", frozenset({"outputs"}))
        Traceback (most recent call last):
            ...
        headcount.errors.TrainingError: Mine.evidence names 'outputs', which is taken after a ...
    """
    if phase not in IN_PHASE:
        raise TrainingError(f"{name}.phase={phase!r}: give one of {', '.join(IN_PHASE)}.")
    for field in sorted(fields):
        if field not in COLLECTORS:
            raise TrainingError(
                f"{name}.evidence names {field!r}, which nothing collects. Name some of "
                f"{sorted(COLLECTORS)}."
            )
        when = COLLECTORS[field].when
        if when not in IN_PHASE[phase]:
            others = [other for other, moments in IN_PHASE.items() if when in moments]
            raise TrainingError(
                f"{name}.evidence names {field!r}, which is taken {when}: a method that chooses "
                f"{phase} never sees it. Give another phase ({', '.join(others)}), or other "
                "evidence."
            )


@final
class Watch:
    """Takes evidence around the passes of a model.

    ``before`` returns the evidence of the whole model, which runs once over the inputs of the pass
    if a method needs it. ``after`` returns the evidence of the gated pass.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)).eval()
        >>> watch = Watch(model, hc.units(model, "head"), frozenset({"attention_maps"}))
        >>> found = watch.before(Call(model, (torch.tensor([[1, 2, 3]]),), {}))
        >>> found["attention_maps"].shape
        torch.Size([1, 3, 3, 12])
        >>> watch.remove()
    """

    def __init__(self, model: nn.Module, units: UnitTable, fields: frozenset[str]) -> None:
        """Attach the collectors that take evidence around passes.

        Args:
            model: the model.
            units: its units, in the order of the evidence.
            fields: the names of the evidence; evidence of other times is ignored.

        Raises:
            ArchitectureError: the model does not offer this evidence.
        """
        self._collectors: list[PassCollector] = []
        for field in sorted(fields):
            kind = COLLECTORS[field]
            if issubclass(kind, PassCollector):
                try:
                    self._collectors.append(kind(model, units))
                except BaseException:
                    self.remove()
                    raise
        self._whole = [each for each in self._collectors if each.when == "before a pass"]
        self._gated = [each for each in self._collectors if each.when != "before a pass"]
        self._open = False

    def before(self, call: Call) -> dict[str, Any]:
        """Return the evidence of the whole model, and get ready for the pass that is to begin.

        The whole model runs in evaluation mode (without dropout) and without a gradient.
        """
        found = self._of_the_whole(call) if self._whole else {}
        for collector in self._gated:
            collector.begin(call)
        self._open = True
        return found

    def after(self, output: Any) -> dict[str, Any]:
        """Return the evidence of the pass that has just ended; nothing if it failed."""
        if not self._open:
            return {}
        self._open = False
        found = {each.field: each.end(output) for each in self._gated}
        return {} if output is None else found

    def _of_the_whole(self, call: Call) -> dict[str, Any]:
        output = None
        with ExitStack() as ends, evaluating(call.module), torch.no_grad():
            # If the pass fails, the collectors still have to end, to undo what begin changed.
            for collector in self._whole:
                collector.begin(call)
                ends.callback(lambda each=collector: output is None and each.end(None))
            output = call.module(*call.args, **call.kwargs)
            return {each.field: each.end(output) for each in self._whole}

    def remove(self) -> None:
        """Remove the collectors' hooks from the model."""
        for collector in self._collectors:
            collector.remove()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Remove the collectors' hooks for a while."""
        with ExitStack() as stack:
            for collector in self._collectors:
                stack.enter_context(collector.lifted())
            yield


def share_of(evidence: Mapping[str, Any], span: slice) -> dict[str, Any]:
    """The part of the evidence about some units; evidence that is not by unit is returned whole.

    Example:
        >>> share_of({"gate_grads": torch.zeros(2, 5), "outputs": "all"}, slice(0, 3))
        {'gate_grads': tensor([[0., 0., 0.],
                [0., 0., 0.]]), 'outputs': 'all'}
    """
    return {
        name: value[..., span] if COLLECTORS[name].by_unit and isinstance(value, Tensor) else value
        for name, value in evidence.items()
    }
