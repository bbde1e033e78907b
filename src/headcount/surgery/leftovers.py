"""What a model still says about quantisation although its weights are floats: read from GGUF."""

from torch import nn

from headcount.architectures.places import parts_of

_ON_MODEL = ("hf_quantizer", "is_quantized", "quantization_method")
_ON_CONFIG = ("quantization_config",)


def drop_leftovers(model: nn.Module) -> None:
    """Let a cut model that was read from a GGUF file be an ordinary float model.

    transformers unpacks such weights while it loads them, but remembers the packed file; it would
    refuse to save or to train the model, and the configuration would ask for the file again.

    Args:
        model: after the cut; changed in place. Models with packed weights are left alone.
    """
    for module in model.modules():
        quantizer = vars(module).get("hf_quantizer")
        if quantizer is None or not _is_unpacked(module, quantizer):
            continue
        for name in _ON_MODEL:
            vars(module).pop(name, None)
        for config in parts_of(vars(module).get("config")):
            for name in _ON_CONFIG:
                vars(config).pop(name, None)


def _is_unpacked(model: nn.Module, quantizer: object) -> bool:
    config = getattr(quantizer, "quantization_config", None)
    method = getattr(config, "quant_method", "")
    packed = getattr(quantizer, "packed_modules", {})
    floats = all(
        type(weight) is nn.Parameter and weight.dtype.is_floating_point
        for weight in model.parameters()
    )
    return method == "gguf" and not packed and floats
