"""Export a saved model to ONNX or OpenVINO, check it against PyTorch, and time it.

The exported function is one forward pass without a cache, in float32. Its inputs are token ids and
masks of any batch size and length.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch import Generator
from torch.export import Dim
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from headcount.architectures.positions import max_tokens
from headcount.checkpoints.disk import expanded_name, on_disk
from headcount.checkpoints.formats import (
    EXAMPLE,
    FILES,
    PACKAGES,
    READERS,
    WRITERS,
    Forward,
    Runtime,
    check_reads_tokens,
    ports_of,
)
from headcount.checkpoints.loading import LOAD_YOURSELF, needs_code, said
from headcount.checkpoints.workspace import check_apart, check_output, publish, resolved
from headcount.door.arguments import checks_arguments
from headcount.door.shape import Seed
from headcount.errors import CheckpointError, PruningError, check_argument
from headcount.reports.measure import Summary, environment, latency_s, summary

TOLERANCE = 1e-4
"""The largest absolute difference between the runtime's outputs and PyTorch's that passes."""

SHAPES = ((1, 1), (3, 5), (2, 31), (5, 16))
"""(batch size, length) of the checks. Each is run with padding on the left and on the right."""

NUM_RUNS = 20
"""Timed forward passes of each model."""

RESULT_FILE = "export.json"
"""Name of the file with the results. Its presence marks a folder as an export."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedModel:
    """The measurements of one exported model."""

    num_bytes: int
    """Size of all exported files together."""
    max_difference: float
    """Largest absolute difference to PyTorch over all checks."""
    latency_s: Summary
    """Seconds of a forward pass in the runtime."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The result of ``export``, which is also in ``export.json`` in the folder.

    Example:
        >>> import headcount as hc
        >>> exported = hc.export("small", "small-onnx")  # doctest: +SKIP
        >>> exported.model.max_difference < 1e-4  # doctest: +SKIP
        True
    """

    file: str
    """Name of the exported file in the folder."""
    inputs: tuple[str, ...]
    """Names of the graph's inputs; int64 [B, T] each."""
    outputs: tuple[str, ...]
    """Names of the graph's outputs."""
    model: ExportedModel
    """The model that was asked for."""
    dense: ExportedModel | None
    """The dense model, exported, checked and timed in the same way; None if none was given."""
    speedup: Summary | None
    """Time of the dense model divided by time of this one, round by round."""
    settings: dict[str, Any]
    """Format, tolerance, seed, and batch, length and number of the timed passes."""
    environment: dict[str, Any]
    """Versions and machine."""


@checks_arguments
def export(
    folder: str | Path,
    output: str | Path,
    *,
    to: str = "onnx",
    dense: str | Path | None = None,
    batch: int = 8,
    length: int = 64,
    seed: Seed = 0,
) -> Exported:
    """Export a saved model, compare it with PyTorch on other inputs, and time it.

    The output folder appears once all checks have passed. If one fails, nothing is left behind. An
    older export there is replaced.

    Args:
        folder: a folder that ``save_pretrained`` or ``headcount prune`` wrote.
        output: the folder to write, with the exported file(s) and ``export.json``.
        to: the format: onnx or openvino.
        dense: folder or Hub id of the dense model, which is exported as well and timed in turns.
        batch: examples of a timed forward pass.
        length: tokens of each example.
        seed: seed of the random inputs.

    Returns:
        The names of the graph's inputs and outputs, and the measurements.

    Raises:
        CheckpointError: ``to`` is unknown or packages are missing; ``folder`` or ``dense`` cannot
            be exported; ``output`` is not an export; ``batch`` or ``length`` is out of range; the
            outputs differ by more than 1e-4.

    Example:
        >>> result = export("small", "small-onnx", dense="dense")  # doctest: +SKIP
        >>> result.model.max_difference, result.speedup.median  # doctest: +SKIP
    """
    _check_format(to)
    check_argument("export", "folder", folder, (str, Path), "the folder of a saved model")
    check_argument("export", "output", output, (str, Path), "a folder")
    _check_output(target := resolved(output))
    check_apart(folder, output)
    models = {"model": _load(folder)}
    if dense is not None:
        models["dense"] = _load(dense, like=models["model"])
    for model in models.values():
        check_reads_tokens(model)
    longest = _longest(models["model"])
    if batch < 1 or not 1 <= length <= longest:
        raise CheckpointError(
            f"export(batch={batch}, length={length}): give a batch of 1 or more, and 1 to "
            f"{longest} tokens, as many as the model reads."
        )
    settings = {"to": to, "tolerance": TOLERANCE, "batch": batch, "length": length, "seed": seed}
    with on_disk("export: the output", target), _beside(target) as work:
        folders = {name: Path(work) / name for name in models}
        files = {name: _written(model, to, folders[name]) for name, model in models.items()}
        result = _measured(models, files, {**settings, "num_runs": NUM_RUNS})
        text = json.dumps(asdict(result), indent=1) + "\n"
        (folders["model"] / RESULT_FILE).write_text(text, encoding="utf-8")
        _check_output(target)
        publish(folders["model"], target)
    return result


@contextmanager
def _beside(target: Path) -> Iterator[str]:
    """A temporary folder beside the target, on the same disk, so that a rename suffices."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name[:40]}-", dir=target.parent) as work:
        yield work


def _check_format(to: str) -> None:
    if to not in PACKAGES:
        known = " or ".join(repr(name) for name in PACKAGES)
        raise CheckpointError(f"export(to={to!r}): there is no such format. Give {known}.")
    missing = [name for name in PACKAGES[to] if find_spec(name) is None]
    if missing:
        raise CheckpointError(
            f"export(to={to!r}): not installed: {', '.join(missing)}. "
            f"Run: pip install 'headcount[{to}]'"
        )


def _check_output(output: Path) -> None:
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not empty and not (output / RESULT_FILE).is_file():
        raise CheckpointError(
            f"export: the output {str(output)!r} exists and has no {RESULT_FILE}, so it is not an "
            "export. Give another folder, or move this one away."
        )
    check_output(output)


def _longest(model: PreTrainedModel) -> int:
    return max_tokens(model) or getattr(model.config, "max_position_embeddings", 10**6)


def _load(source: str | Path, like: PreTrainedModel | None = None) -> PreTrainedModel:
    """A model in float32 with eager attention, of the class that it was saved from, or ``like``'s.

    The mask of eager attention has no infinities. So a token that may attend to none, such as left
    padding in a decoder, gives numbers instead of NaN in every runtime.
    """
    source = expanded_name(source)
    config = _config(source)
    if like is not None and like.config.model_type != config.model_type:
        raise CheckpointError(
            f"export(dense={str(source)!r}): its type is {config.model_type}, that of the other "
            f"is {like.config.model_type}. Give the model that the other was pruned from."
        )
    names = config.architectures or []
    if len(names) != 1 or names[0] not in dir(transformers):
        raise CheckpointError(
            f"export({str(source)!r}): config.json names the classes {names}; one class of "
            "transformers is needed. Save the model with save_pretrained."
        )
    model_class = getattr(transformers, names[0]) if like is None else type(like)
    settings = {"dtype": torch.float32, "attn_implementation": "eager"}
    try:
        model = model_class.from_pretrained(source, **settings)
    except PruningError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"export({source!r}): its weights cannot be loaded: {said(error)}. Save the model "
            "again."
        ) from error
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            part.config.use_cache = False
    return model.eval()


def _config(source: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except PruningError:
        raise
    except Exception as error:  # a damaged file may lead to any error
        give = "Give a folder that save_pretrained or headcount prune wrote."
        raise CheckpointError(
            f"export({source!r}): there is no model that can be loaded: {said(error)}. "
            f"{LOAD_YOURSELF if needs_code(error) else give}"
        ) from error


def _written(model: PreTrainedModel, to: str, folder: Path) -> Path:
    """Trace one model for any batch size and length, and write it to a new folder."""
    folder.mkdir()
    ports = ports_of(model)
    example = ports.random(*EXAMPLE, Generator().manual_seed(0), side="right")
    dims = {"tensors": tuple({0: Dim.DYNAMIC, 1: Dim.DYNAMIC} for _ in example)}
    forward, arguments = Forward(model, ports), tuple(example.values())
    try:
        with warnings.catch_warnings(), torch.no_grad():
            theirs = r"`isinstance\(treespec, LeafSpec\)` is deprecated"
            warnings.filterwarnings("ignore", theirs, FutureWarning)
            program = torch.export.export(forward, arguments, dynamic_shapes=dims)
            WRITERS[to](program, ports, folder / FILES[to])
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"export: {type(model).__name__} cannot be exported. The exporter says: {reason}"
        ) from error
    return folder / FILES[to]


def _measured(
    models: dict[str, PreTrainedModel], files: dict[str, Path], settings: dict[str, Any]
) -> Exported:
    """Check every exported file, then time them in turns."""
    to, seed, ports = settings["to"], settings["seed"], ports_of(models["model"])
    runtimes = {name: Runtime(READERS[to](file)) for name, file in files.items()}
    worst = {name: _compared(model, runtimes[name], seed) for name, model in models.items()}
    generator = Generator().manual_seed(seed)
    inputs = ports.random(settings["batch"], settings["length"], generator)
    samples = latency_s(runtimes, inputs, num_runs=settings["num_runs"], warmup=3)
    rows = {
        name: ExportedModel(
            num_bytes=sum(file.stat().st_size for file in files[name].parent.iterdir()),
            max_difference=worst[name],
            latency_s=summary(samples[name]),
        )
        for name in models
    }
    # Round by round: a machine that slows down for a while slows both models down.
    both = zip(samples.get("dense", ()), samples["model"], strict=False)
    ratios = [its / mine for its, mine in both]
    return Exported(
        file=FILES[to],
        inputs=tuple(ports.inputs),
        outputs=ports.outputs,
        model=rows["model"],
        dense=rows.get("dense"),
        speedup=summary(ratios) if ratios else None,
        settings=settings,
        environment=environment() | {name: version(name) for name in PACKAGES[to]},
    )


def _compared(model: PreTrainedModel, runtime: Runtime, seed: int) -> float:
    """The largest difference over all checks."""
    ports, generator = ports_of(model), Generator().manual_seed(seed)
    reference, worst = Forward(model, ports), 0.0
    longest = _longest(model) - 2  # RoBERTa and others number their positions from two
    for (batch, wanted), side in product(SHAPES, ("left", "right")):
        length = min(wanted, longest)
        inputs = ports.random(batch, length, generator, side)
        with torch.inference_mode():
            pairs = zip(reference(*inputs.values()), runtime(**inputs), strict=True)
            differences = [float((one - other).abs().max()) for one, other in pairs]
        worst = max(worst, *differences)
        if not all(difference <= TOLERANCE for difference in differences):  # NaN does not pass
            raise CheckpointError(
                f"export: the exported {type(model).__name__} differs from PyTorch by "
                f"{max(differences):.3g} on {batch} x {length} tokens padded on the {side}; at "
                f"most {TOLERANCE:g} is allowed. Nothing was written."
            )
    return worst
