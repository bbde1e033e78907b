"""Outputs of the whole and of the gated model, as evidence."""

from typing import Any, ClassVar, final

from headcount.evidence.collector import Call, PassCollector, When


class _Output(PassCollector):
    """The output of the module that was called."""

    by_unit: ClassVar[bool] = False

    def begin(self, call: Call) -> None:
        """Nothing to prepare."""

    def end(self, output: Any) -> Any:
        """The output as the model gives it."""
        return output


@final
class WholeOutputs(_Output):
    """The output of the whole model for the inputs of a pass, without a gradient.

    Example:
        >>> WholeOutputs.when
        'before a pass'
    """

    field: ClassVar[str] = "whole_outputs"
    when: ClassVar[When] = "before a pass"


@final
class Outputs(_Output):
    """The output of the gated model, with a gradient.

    Example:
        >>> Outputs.when
        'after a pass'
    """

    field: ClassVar[str] = "outputs"
    when: ClassVar[When] = "after a pass"
