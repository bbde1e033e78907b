"""Measure models, saved folders and the machine."""

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import PreTrainedConfig, PreTrainedModel

from headcount.architectures.discover import discover
from headcount.architectures.positions import max_tokens
from headcount.errors import BudgetError, CheckpointError, PruningError
from headcount.gates.modes import evaluating
from headcount.units.kinds import KINDS

PACKAGES = ("headcount", "torch", "transformers", "accelerate")
"""Packages whose versions are noted with measurements."""
Told = Callable[[int, int], None]
"""A function that is called with (number done, total) to show progress."""


def num_params(model: nn.Module) -> int:
    """The number of parameters of a model, shared ones counted once.

    Args:
        model: any module.

    Example:
        >>> num_params(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def units_per_layer(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The units of each layer, counted from the weights; 0 for a layer without units.

    Args:
        model: a transformers model, dense or cut.

    Returns:
        For every kind, one number for each layer of encoder and decoder, in the order of the
        model, [L].

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> units_per_layer(BertModel(BertConfig(num_hidden_layers=2)))["head"]
        (12, 12)
    """
    counts: dict[str, dict[tuple[str, str, int], int]] = {kind: {} for kind in KINDS}
    for site in discover(model).sites:
        for kind, own in counts.items():
            found = site.num_units if site.kind == kind else 0
            own[site.layer_key] = own.get(site.layer_key, 0) + found
    return {kind: tuple(own.values()) for kind, own in counts.items()}


def macs(model: nn.Module, inputs: Mapping[str, Any]) -> int:
    """MACs of one forward pass: matrix products and convolutions.

    This is half of what ``torch.utils.flop_counter`` counts. That counter counts sdpa and eager
    attention differently, and grouped products of experts not at all. So attention and experts are
    eager during the count, whatever the model uses, and restored afterwards. Classes that always
    call sdpa, and models that do not run with eager attention, are counted by the same two matrix
    products. A module that is not a transformers model is counted as it is.

    Args:
        model: the model; counted in evaluation mode, unchanged afterwards.
        inputs: keyword arguments of the model, on its device. The count is for the whole batch.

    Returns:
        MACs; biases, norms and activations cost nothing.

    Example:
        >>> macs(nn.Linear(3, 2), {"input": torch.zeros(5, 3)})
        30
    """
    unknown = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _of_sdpa}
    counter = FlopCounterMode(display=False, custom_mapping=unknown)
    with evaluating(model), _frozen(model), torch.no_grad():
        try:
            with _eager_attention(model), counter:
                model(**inputs)
        except RuntimeError:  # some models run only with an implementation of their own
            counter = FlopCounterMode(display=False, custom_mapping=unknown)
            with counter:
                model(**inputs)
    return counter.get_total_flops() // 2


def latency_s(
    models: Mapping[str, nn.Module],
    inputs: Mapping[str, Any],
    *,
    num_runs: int,
    warmup: int,
    told: Told | None = None,
) -> dict[str, list[float]]:
    """Wall-clock seconds of forward passes, with the models taking turns: A B A B ...

    Turns spread the effect of other work on the machine evenly over the models. Passes run in
    evaluation and inference mode, with the models' own attention implementation. On an accelerator,
    each timing waits until the pass is finished.

    Args:
        models: the models by name, all on one device; unchanged afterwards.
        inputs: keyword arguments of the models, on their device.
        num_runs: timed passes of each model, 1 or more.
        warmup: passes of each model before the first timed one, 0 or more.
        told: called after each round with (rounds done, rounds in all); not part of the timing.

    Returns:
        For each name in ``models``, all timings in seconds, in their order.

    Raises:
        PruningError: ``num_runs`` or ``warmup`` is out of range, or there is no model.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> samples = latency_s({"a": layer}, {"input": torch.zeros(1, 3)}, num_runs=4, warmup=1)
        >>> len(samples["a"])
        4
    """
    if num_runs < 1 or warmup < 0:
        raise PruningError(
            f"latency_s(num_runs={num_runs}, warmup={warmup}): nothing can be timed so. "
            "Give num_runs 1 or more and warmup 0 or more."
        )
    if not models:
        raise PruningError("latency_s(models={}): there is no model. Give at least one.")
    samples: dict[str, list[float]] = {name: [] for name in models}
    with evaluating(*models.values()), torch.inference_mode():
        for run in range(-warmup, num_runs):
            for name, model in models.items():
                elapsed_s = _timed_s(model, inputs)
                if run >= 0:
                    samples[name].append(elapsed_s)
            if told is not None:
                told(run + warmup + 1, warmup + num_runs)
    return samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Median and quartiles of samples, in the unit of the samples."""

    median: float
    """Half of the samples are below it."""
    lower_quartile: float
    """A quarter of the samples are below it."""
    upper_quartile: float
    """A quarter of the samples are above it."""


def summary(samples: Sequence[float]) -> Summary:
    """Median and quartiles, interpolated linearly between neighbouring samples.

    Args:
        samples: at least one number.

    Raises:
        PruningError: there is no sample.

    Example:
        >>> summary([1.0, 2.0, 3.0, 4.0, 100.0])
        Summary(median=3.0, lower_quartile=2.0, upper_quartile=4.0)
    """
    if not samples:
        raise PruningError("summary([]): there is no sample. Give at least one.")
    levels = torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64)
    values = torch.tensor(samples, dtype=torch.float64).quantile(levels).tolist()
    return Summary(median=values[0], lower_quartile=values[1], upper_quartile=values[2])


def example_batch(model: PreTrainedModel, batch: int, length: int) -> dict[str, Tensor]:
    """Token ids without padding, the same at every call; [batch, length].

    Raises:
        BudgetError: the batch is empty, or the model does not read so many tokens.
    """
    if batch < 1 or length < 1:
        raise BudgetError(
            f"latency_batch={batch}, latency_length={length}: nothing can be timed so. Give 1 or "
            "more for each."
        )
    # The table of positions tells more exactly than the configuration, where there is one.
    stated = getattr(model.config, "max_position_embeddings", length)
    longest = max_tokens(model) or stated
    if length > longest:
        raise BudgetError(
            f"latency_length={length}: the model reads at most {longest} tokens. Give 1 "
            f"to {longest}."
        )
    generator = Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (batch, length), generator=generator)
    ids = ids.to(model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def weight_bytes(folder: str | Path) -> int:
    """The size on disk of a saved model's weights, all shards together.

    Args:
        folder: what ``save_pretrained`` wrote.

    Returns:
        Bytes of ``model.safetensors``, or of ``model-00001-of-00002.safetensors`` and so on.

    Raises:
        CheckpointError: there are no such files.

    Example:
        >>> import tempfile, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_pretrained(folder)
        ...     weight_bytes(folder) > 4 * num_params(model)
        True
    """
    files = list(Path(folder).glob("model*.safetensors"))
    if not files:
        raise CheckpointError(
            f"weight_bytes({str(folder)!r}): no model*.safetensors there. "
            "Give a folder that save_pretrained wrote."
        )
    return sum(file.stat().st_size for file in files)


def environment() -> dict[str, Any]:
    """Versions and machine behind a measurement, without names of host, user or folders.

    Returns:
        Plain values: ``python``, the version of each package (None if it is not installed), a hash
        of headcount's ``code``, which tells states of one version apart, ``platform``,
        ``processor``, ``num_cores`` that this process may use, ``num_threads`` of torch, and
        ``gpu`` (None without one).

    Example:
        >>> sorted(environment())[:4]
        ['accelerate', 'code', 'gpu', 'headcount']
    """
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "code": _code(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "num_cores": _num_cores(),
        "num_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _timed_s(model: nn.Module, inputs: Mapping[str, Any]) -> float:
    _wait(inputs)
    start = perf_counter()
    model(**inputs)
    _wait(inputs)
    return perf_counter() - start


def _wait(inputs: Mapping[str, Any]) -> None:
    """Wait until the device of the inputs is idle: accelerators only queue their work."""
    devices = {value.device for value in inputs.values() if isinstance(value, Tensor)}
    for device in devices:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Inside the block, no parameter requires a gradient.

    torch's flop counter fails on a module whose output is a view of such a parameter. An example is
    attention without heads, whose output is an expanded bias.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _of_sdpa(
    query: torch.Size, key: torch.Size, value: torch.Size, *others: Any, **options: Any
) -> int:
    """The FLOPs of an sdpa kernel. The flop counter passes all arguments of the kernel."""
    del others, options
    return sdpa_flop_count(query, key, value)


@contextmanager
def _eager_attention(model: nn.Module) -> Iterator[None]:
    """Inside the block, every configuration of a model asks for eager attention and experts.

    The configurations are changed directly, not by ``set_attn_implementation``: that may refuse to
    restore the implementation that the model was built with, if a part does not support it.
    """
    owners = (vars(module).get("config") for module in model.modules())
    configs = {id(config): config for owner in owners for config in _with_parts(owner)}
    before = [
        (config, name, value)
        for config in configs.values()
        for name in ("_attn_implementation_internal", "_experts_implementation_internal")
        if (value := vars(config).get(name)) not in (None, "eager")
    ]
    for config, name, _ in before:
        vars(config)[name] = "eager"
    try:
        yield
    finally:
        for config, name, value in before:
            vars(config)[name] = value


def _with_parts(config: Any) -> Iterator[PreTrainedConfig]:
    """A configuration and the configurations inside it; nothing for any other value."""
    if isinstance(config, PreTrainedConfig):
        yield config
        for name in config.sub_configs:
            yield from _with_parts(getattr(config, name, None))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _code() -> str:
    """A short hash of the names and contents of the package's files."""
    package, found = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        found.update(f"{file.relative_to(package).as_posix()}\n".encode() + file.read_bytes())
    return found.hexdigest()[:12]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _num_cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
