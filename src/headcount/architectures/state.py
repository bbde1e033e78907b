"""What state a model's weights are in: packed, scattered, or what they seem."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headcount.architectures.places import parts_of

KNOWN = ("torch.nn.modules", "transformers.models", "transformers.pytorch_utils")
"""Where classes come from of which a model is made when nobody has changed it."""
PLAIN = (Tensor, nn.Parameter)
"""The classes of tensors of which an index means what it says."""
PACKAGES = (
    "aqlm", "auto_gptq", "awq", "bitsandbytes", "compressed_tensors", "eetq", "fbgemm_gpu",
    "fp_quant", "gptqmodel", "hqq", "optimum", "quark", "spqr_quant", "torchao", "vptq",
    "torch.ao.nn", "transformers.integrations",
)  # fmt: skip
"""Packages whose linear maps hold packed weights."""
LEFTOVERS = ("hf_quantizer", "is_quantized", "quantization_method", "quantization_config")
"""What transformers leaves on a model, and on its configuration, of how its weights were read."""

_LOAD = "Load the model unquantised, cut it, then quantise the result."


def why_packed(model: nn.Module) -> str:
    """Why a model's weights cannot be sliced: they are quantised; empty if they are not.

    Weights that only come from a packed file are not packed any more: GGUF, and other formats that
    were loaded with ``dequantize=True``.
    """
    for name, module in model.named_modules():
        package = type(module).__module__
        known = any(package == own or package.startswith(f"{own}.") for own in PACKAGES)
        if known and "Linear" in type(module).__name__:
            return f"{name} is quantised (a {type(module).__name__} of {package}). {_LOAD}"
        for leaf, parameter in module.named_parameters(recurse=False):
            if not parameter.is_floating_point() or parameter.dtype.itemsize < 2:
                kind = f"({parameter.dtype}); packed weights cannot be sliced"
                return f"{name}.{leaf} is quantised {kind}. {_LOAD}"
            if is_foreign(parameter) and not _is_distributed(parameter):
                kind = f"or computed (a {type(parameter).__name__})"
                return f"{name}.{leaf} is quantised {kind}; it cannot be sliced. {_LOAD}"
    return next((f"{reason} {_LOAD}" for reason in map(_quantizer, model.modules()) if reason), "")


def is_foreign(tensor: Tensor) -> bool:
    """Whether a tensor is of a class of its own, of which an index may mean something else."""
    kind = type(tensor)
    return kind not in PLAIN and not kind.__module__.startswith(("torch._subclasses", "torch.nn"))


def _quantizer(module: nn.Module) -> str:
    """What quantises a model as far as transformers knows; empty if it only read its file."""
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
    """Take off what is left on a model, and on its configurations, of how its file was packed.

    With it, transformers would not save the model, or would pack it again.
    """
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            for values in (vars(module), *map(vars, parts_of(vars(module).get("config")))):
                for name in (*LEFTOVERS, "_is_quantized"):
                    values.pop(name, None)


def why_scattered(model: nn.Module) -> str:
    """Why a model's weights have no shapes to be read: they lie in parts on several processes.

    Empty if they do not. The parameters of FSDP2 and of tensor parallelism (``DTensor``) have
    shapes: they can be read, but not sliced; see ``why_in_parts``.
    """
    for name, module in model.named_modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            return f"{name or 'the model'} is sharded (FSDP). {_gather('FSDP.summon_full_params')}"
    for name, parameter in model.named_parameters():
        if hasattr(parameter, "ds_id") or _is_hollow(model, name, parameter):
            what = "deepspeed.zero.GatheredParameters"
            return f"{name} is partitioned (DeepSpeed ZeRO, FSDP) or empty. {_gather(what)}"
    return ""


def why_in_parts(model: nn.Module) -> str:
    """Why a model's weights cannot be sliced in this process; empty if they can."""
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
    """Whether a linear map has no numbers although it has inputs and outputs."""
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    sizes = [vars(module).get(size) for size in ("in_features", "out_features")]
    return leaf == "weight" and not parameter.numel() and all(sizes)


def oddities(module: nn.Module) -> Iterator[str]:
    """What about a linear map speaks against cutting it as one; nothing for a plain one."""
    for name in ("weight", "bias"):
        if name not in module._parameters and torch.is_tensor(getattr(module, name, None)):
            yield f"{name} is computed"
    extra = [name for name, _ in module.named_parameters() if name not in ("weight", "bias")]
    if extra:
        yield f"it has {', '.join(extra[:3])}"
    if not _forward_is_known(type(module)):
        yield f"it is a {type(module).__name__}"


def _forward_is_known(kind: type) -> bool:
    """Whether the class that says what a map puts out is PyTorch's, or of transformers' models."""
    owner = next(base for base in kind.__mro__ if "forward" in vars(base))
    return owner.__module__.startswith(KNOWN)
