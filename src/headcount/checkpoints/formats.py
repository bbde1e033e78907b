"""The formats of an export: inputs and outputs, how a file is written, how it is run."""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.export import ExportedProgram
from transformers import PreTrainedModel

from headcount.errors import CheckpointError

EXAMPLE = (2, 8)
"""Batch size and length of the forward pass that is traced."""

PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
"""Format -> packages that it needs. The extra of headcount with the same name installs them."""

Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]
"""A function that runs an exported file: arrays by name -> arrays in the order of its outputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """The inputs and outputs of a graph."""

    inputs: dict[str, int]
    """Name of an input -> number of values: its integers are 0 or more and less than this."""
    outputs: tuple[str, ...]
    """Names of the outputs."""
    pad: int
    """The token id of padding."""

    def random(
        self, batch: int, length: int, generator: Generator, side: str = ""
    ) -> dict[str, Tensor]:
        """Random inputs by name, int64 [B, T]. A decoder's are shorter than the encoder's.

        If a side is given (left or right), half of the last of several examples is padding.

        Example:
            >>> ports = Ports(inputs={"input_ids": 9, "attention_mask": 2}, outputs=(), pad=0)
            >>> ports.random(2, 4, Generator().manual_seed(0), "left")["attention_mask"].tolist()
            [[1, 1, 1, 1], [0, 0, 1, 1]]
        """
        mask, half = torch.ones(batch, length, dtype=torch.long), length // 2
        if side and batch > 1:
            mask[-1, slice(0, half) if side == "left" else slice(length - half, None)] = 0
        found = {}
        for name, values in self.inputs.items():
            columns = half + 1 if name == "decoder_input_ids" else length
            found[name] = torch.randint(values, (batch, columns), generator=generator)
        found["input_ids"] = found["input_ids"].masked_fill(mask == 0, self.pad)
        return {**found, "attention_mask": mask}


def check_reads_tokens(model: PreTrainedModel) -> None:
    """Refuse a model whose main input is not token ids.

    Raises:
        CheckpointError: it is not; the message says what the model reads.
    """
    reads = model.main_input_name
    needed = [
        name
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    if reads == "input_ids" and "input_ids" not in inspect.signature(model.forward).parameters:
        reads = needed[0] if needed else "no input_ids"
    if reads != "input_ids":
        raise CheckpointError(
            f"export: {type(model).__name__} reads {reads}. Give a model that reads token ids."
        )


def ports_of(model: PreTrainedModel) -> Ports:
    """The ports of a model: token ids, mask, token types if it has any, and decoder ids.

    The outputs are found by one forward pass.
    """
    check_reads_tokens(model)
    try:
        vocabulary: Any = model.get_input_embeddings()
    except NotImplementedError as error:  # of models that are made of models
        raise CheckpointError(
            f"export: {type(model).__name__} reads more than token ids. Give a model that reads "
            "token ids and nothing else, such as one of those it is made of."
        ) from error
    inputs = {"input_ids": vocabulary.num_embeddings, "attention_mask": 2}
    num_types = model.config.to_dict().get("type_vocab_size") or 0
    if num_types > 1 and "token_type_ids" in inspect.signature(model.forward).parameters:
        inputs["token_type_ids"] = num_types
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = model.get_decoder().get_input_embeddings().num_embeddings
    ports = Ports(inputs=inputs, outputs=(), pad=model.config.pad_token_id or 0)
    example = ports.random(*EXAMPLE, Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            found = model(**example, return_dict=True)
    except Exception as error:  # of a model's own code
        said = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"export: {type(model).__name__} does not run on {', '.join(inputs)} alone: {said}. "
            "Give a model that reads token ids and nothing else."
        ) from error
    own = (name for name, value in found.items() if isinstance(value, Tensor))
    names = tuple(name for name in own if not name.startswith("encoder_"))
    return Ports(inputs=inputs, outputs=names, pad=ports.pad)


class Forward(nn.Module):
    """A model as a function from tensors to tensors, in the order of its ports."""

    def __init__(self, model: PreTrainedModel, ports: Ports) -> None:
        super().__init__()
        self.model = model
        self.ports = ports

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Inputs in, outputs out."""
        found = self.model(**dict(zip(self.ports.inputs, tensors, strict=True)), return_dict=True)
        return tuple(found[name] for name in self.ports.outputs)


class Runtime(nn.Module):
    """An exported file with its runtime, as a module, so that it is timed like a model."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def forward(self, **inputs: Tensor) -> list[Tensor]:
        """One run of the file."""
        arrays = self.run({name: tensor.numpy() for name, tensor in inputs.items()})
        return [torch.from_numpy(array) for array in arrays]


def _write_onnx(program: ExportedProgram, ports: Ports, path: Path) -> None:
    remarks = logging.getLogger("torch.onnx._internal.exporter._registration")
    remarks.setLevel(logging.ERROR)  # it remarks on optional packages that are not installed
    inputs, outputs = list(ports.inputs), list(ports.outputs)
    onnx = torch.onnx.export(
        program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs
    )
    assert onnx is not None
    onnx.save(path)


def _read_onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda arrays: [np.asarray(output) for output in session.run(None, arrays)]


def _write_openvino(program: ExportedProgram, ports: Ports, path: Path) -> None:
    import openvino

    model = openvino.convert_model(program)
    names = (*ports.inputs, *ports.outputs)
    for port, name in zip((*model.inputs, *model.outputs), names, strict=True):
        port.get_tensor().set_names({name})
    openvino.save_model(model, path, compress_to_fp16=False)


def _read_openvino(path: Path) -> Run:
    import openvino

    threads = torch.get_num_threads()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda arrays: list(compiled(arrays).to_tuple())


FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
WRITERS = {"onnx": _write_onnx, "openvino": _write_openvino}
READERS = {"onnx": _read_onnx, "openvino": _read_openvino}
"""Format -> function that loads a file, for the CPU and as many threads as PyTorch has."""
