"""Whether a model's weights can be read and sliced: quantised, spread over processes, or plain."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headcount.architectures.locations import parts_of

KNOWN = ("torch.nn.modules", "transformers.models", "transformers.pytorch_utils")
"""Packages of the classes that an unchanged transformers model is made of."""
PLAIN = (Tensor, nn.Parameter)
"""Classes of tensors for which indexing selects numbers, and nothing else."""
PACKAGES = (
    "aqlm", "auto_gptq", "awq", "bitsandbytes", "compressed_tensors", "eetq", "fbgemm_gpu",
    "fp_quant", "gptqmodel", "hqq", "optimum", "quark", "spqr_quant", "torchao", "vptq",
    "torch.ao.nn", "transformers.integrations",
)  # fmt: skip
"""Packages whose linear maps hold quantised weights."""
LEFTOVERS = ("hf_quantizer", "is_quantized", "quantization_method", "quantization_config")
"""Attributes by which transformers remembers how a model, or a configuration, was quantised."""

_LOAD = "Load the model unquantised, cut it, then quantise the result."


def why_packed(model: nn.Module) -> str:
    """Say that a model's weights are quantised and cannot be sliced; empty if they are not.

    Weights that were unpacked as they were loaded count as plain: GGUF, and any format with
    ``dequantize=True``.
    """
    for name, module in model.named_modules():
        # These packages also have modules that hold no weights, so the name counts as well.
        package = type(module).__module__
        known = any(package == own or package.startswith(f"{own}.") for own in PACKAGES)
        if known and "Linear" in type(module).__name__:
            return f"{name} is quantised (a {type(module).__name__} of {package}). {_LOAD}"
        for leaf, parameter in module.named_parameters(recurse=False):
            # Integers, and floats of one byte (fp8), which need scales beside them.
            if not parameter.is_floating_point() or parameter.dtype.itemsize < 2:
                kind = f"({parameter.dtype}); packed weights cannot be sliced"
                return f"{name}.{leaf} is quantised {kind}. {_LOAD}"
            if is_foreign(parameter) and not _is_distributed(parameter):
                kind = f"or computed (a {type(parameter).__name__})"
                return f"{name}.{leaf} is quantised {kind}; it cannot be sliced. {_LOAD}"
    return next((f"{reason} {_LOAD}" for reason in map(_quantizer, model.modules()) if reason), "")


def is_foreign(tensor: Tensor) -> bool:
    """Whether a tensor has a special class, whose indexing may mean something else."""
    kind = type(tensor)
    return kind not in PLAIN and not kind.__module__.startswith(("torch._subclasses", "torch.nn"))


def _quantizer(module: nn.Module) -> str:
    """Say how transformers quantised a model; empty if it did not, or unpacked the weights."""
    values = vars(module)
    quantizer = values.get("hf_quantizer")
    if quantizer is None and not values.get("is_quantized"):
        return ""
    config = getattr(quantizer, "quantization_config", None) or _config_of(module)
    method = getattr(config, "quant_method", None)
    method = str(getattr(method, "value", method) or type(quantizer).__name__)
    if method == "gguf" or getattr(config, "dequantize", False):
        return ""
    return f"the model is quantised ({method})."


def _config_of(module: nn.Module) -> object:
    return getattr(vars(module).get("config"), "quantization_config", None)


def forget_packing(model: nn.Module) -> None:
    """Delete what a model and its configurations remember of a quantised file.

    Otherwise transformers would refuse to save the model, or would quantise it again.
    """
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            for values in (vars(module), *map(vars, parts_of(vars(module).get("config")))):
                for name in (*LEFTOVERS, "_is_quantized"):
                    values.pop(name, None)


def why_scattered(model: nn.Module) -> str:
    """Say that a model's weights have no readable shapes, since processes share them out.

    Empty if the shapes can be read. Parameters of FSDP2 and tensor parallelism (``DTensor``) have
    shapes: their units can be counted, but not sliced; see ``why_in_parts``.
    """
    # By name and attribute: neither FSDP nor DeepSpeed needs to be installed.
    for name, module in model.named_modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            return f"{name or 'the model'} is sharded (FSDP). {_gather('FSDP.summon_full_params')}"
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "ds_id") or _is_hollow(model, name, parameter):
            what = "deepspeed.zero.GatheredParameters"
            return f"{name} is partitioned (DeepSpeed ZeRO, FSDP) or empty. {_gather(what)}"
    return ""


def why_in_parts(model: nn.Module) -> str:
    """Say that this process has only parts of the weights (DTensor); empty if it has them all."""
    found = (name for name, tensor in model.named_parameters() if _is_distributed(tensor))
    name = next(found, "")
    what = "torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True"
    return f"{name} is a DTensor (FSDP2, tensor parallel). {_gather(what)}" if name else ""


def _gather(how: str) -> str:
    return (
        f"Gather the weights first ({how}), load them into a model on one device, and cut that: "
        "the decision holds for it."
    )


def _is_distributed(tensor: Tensor) -> bool:
    kinds = (kind.__module__ for kind in type(tensor).__mro__)
    return any(kind.startswith("torch.distributed") for kind in kinds)


def _is_hollow(model: nn.Module, name: str, parameter: Tensor) -> bool:
    """Whether a linear map's weight is empty although its attributes give it a size."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    sizes = [vars(module).get(size) for size in ("in_features", "out_features")]
    return leaf == "weight" and not parameter.numel() and all(sizes)


def oddities(module: nn.Module) -> Iterator[str]:
    """Reasons why a linear map cannot be cut like a plain one; none for a plain one."""
    for name in ("weight", "bias"):
        # A tensor that is no parameter is computed by a hook or a parametrization: pruning, norms.
        if name not in module._parameters and torch.is_tensor(getattr(module, name, None)):
            yield f"{name} is computed"
    extra = [name for name, _ in module.named_parameters() if name not in ("weight", "bias")]
    if extra:
        yield f"it has {', '.join(extra[:3])}"
    if not _forward_is_known(type(module)):
        yield f"it is a {type(module).__name__}"


def _forward_is_known(kind: type) -> bool:
    """Whether the class that defines a map's ``forward`` is PyTorch's or transformers'."""
    owner = next(base for base in kind.__mro__ if "forward" in vars(base))
    return owner.__module__.startswith(KNOWN)
