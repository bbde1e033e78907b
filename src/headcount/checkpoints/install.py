"""Change transformers as soon as its modules are imported, before anybody uses them."""

from types import ModuleType

from headcount.checkpoints.arrival import when_imported


def install() -> None:
    """Teach transformers to build and save uneven models, in each process that imports headcount.

    The order of the two imports makes no difference. Nothing of transformers is imported here, or
    while transformers imports its own modules: these import one another, and most are incomplete
    at that time.
    """
    when_imported("transformers.configuration_utils", "PreTrainedConfig", _configurations)
    when_imported("transformers.modeling_utils", "PreTrainedModel", _models)
    when_imported("transformers.generation.utils", "GenerationMixin", _serving)


def _configurations(module: ModuleType) -> None:
    from headcount.checkpoints.seam import teach_configurations

    teach_configurations(module.PreTrainedConfig)


def _models(module: ModuleType) -> None:
    from headcount.checkpoints.seam import teach_models

    teach_models(module.PreTrainedModel)


def _serving(module: ModuleType) -> None:
    from headcount.checkpoints.seam import teach_serving

    teach_serving(module.GenerationMixin)
