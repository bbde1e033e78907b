"""The relaxed top-k against the autograd loop of its specification: time and equality.

    python benchmarks/relaxed_topk.py --output benchmarks/results/relaxed_topk.json

One row for each (N, K) and temperature: time of a forward and a backward pass for the loop and for
both of headcount's paths, taken in turns in the same run, medians over the rounds. The results must
agree to 1e-9 (gradients relative to the largest, where that exceeds one), or else to ten times what
a change of the logits in the last bit does to the loop itself: at some temperatures the function
amplifies rounding, and no two ways to compute it agree. Always, the gates of every single step,
started from the loop's own logits, must agree to 1e-9.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from headcount.maths import relaxed_topk_torch
from headcount.maths.gumbel import gumbel_noise
from headcount.maths.relaxed_topk import SuccessiveSoftmax, successive_softmax

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from reference import relaxed_topk as twin

SIZES = ((144, 12), (144, 72), (1024, 512))
TEMPERATURES = (1000.0, 1.0, 0.1, 1e-2, 1e-8)
TOLERANCE = 1e-9

Function = Callable[[Tensor, int, float], tuple[Tensor, Tensor]]


def paths() -> dict[str, Function]:
    """The loop; the function a user calls, on numba if it is installed; and the other path."""
    chosen = "numba" if importlib.util.find_spec("numba") else "torch"
    return {"loop": twin.successive_softmax, chosen: successive_softmax, "torch": on_torch}


def on_torch(logits: Tensor, num_keep: int, temperature: float) -> tuple[Tensor, Tensor]:
    """``successive_softmax`` as it runs without numba, without its checks."""
    table = torch.atleast_2d(logits)
    gates, left = SuccessiveSoftmax.apply(table, num_keep, 1 / temperature, relaxed_topk_torch)
    return gates.reshape(logits.shape), left.reshape(logits.shape)


def gates_and_grad(
    function: Function, logits: Tensor, num_keep: int, temperature: float, weights: Tensor
) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    gates, _ = function(logits, num_keep, temperature)
    (grad,) = torch.autograd.grad(gates, logits, weights)
    return gates.detach(), grad


def difference(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """The largest difference, relative to the largest value where that exceeds one."""
    pairs = zip(ours, theirs, strict=True)
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1)).item() for a, b in pairs)


def agreement(
    functions: dict[str, Function],
    logits: Tensor,
    num_keep: int,
    temperature: float,
    weights: Tensor,
) -> dict[str, float]:
    """How far each path is from the loop, and the loop from itself one bit away, if near enough."""
    loop = functions["loop"]
    states = twin.trajectory(logits, num_keep, temperature)
    steps = loop(states, 1, temperature)[0]
    expected = gates_and_grad(loop, logits, num_keep, temperature, weights)
    nudged = torch.nextafter(logits, logits + weights)
    nudge = difference(gates_and_grad(loop, nudged, num_keep, temperature, weights), expected)
    found = {"loop_one_bit_away": nudge}
    for name in functions.keys() - {"loop"}:
        result = gates_and_grad(functions[name], logits, num_keep, temperature, weights)
        found[name] = difference(result, expected)
        step = difference((functions[name](states, 1, temperature)[0],), (steps,))
        if found[name] > max(TOLERANCE, 10 * nudge) or step > TOLERANCE:
            raise AssertionError(f"{name}, tau {temperature}: {found}, single steps {step}")
    return found


def seconds(
    functions: dict[str, Function], rounds: int, *arguments: Tensor | int | float
) -> dict[str, float]:
    """Median seconds of a forward and backward pass, the paths taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            gates_and_grad(function, *arguments)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(n: int, num_keep: int, temperature: float, rounds: int, seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    logits, weights = gumbel_noise((n,), generator), gumbel_noise((n,), generator)
    functions = paths()
    found = agreement(functions, logits, num_keep, temperature, weights)
    times = seconds(functions, rounds, logits, num_keep, temperature, weights)
    return {
        "n": n,
        "k": num_keep,
        "temperature": temperature,
        "seconds": times,
        "loop_over": {name: times["loop"] / s for name, s in times.items() if name != "loop"},
        "difference": found,
    }


def line(row: dict) -> str:
    milliseconds = "  ".join(f"{name} {1e3 * s:7.2f} ms" for name, s in row["seconds"].items())
    ratios = "  ".join(f"loop/{name} {ratio:5.1f}" for name, ratio in row["loop_over"].items())
    apart = "  ".join(f"{name} {value:.0e}" for name, value in row["difference"].items())
    size = f"N {row['n']:4} K {row['k']:3} tau {row['temperature']:<7g}"
    return f"{size} {milliseconds}  {ratios}  apart: {apart}"


def environment() -> dict:
    versions = {"python": platform.python_version()}
    for package in ("torch", "numba", "numpy", "headcount"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [text.split(":", 1)[1].strip() for text in lines if text.startswith("model name")]
    machine = {
        "processor": models[0] if models else platform.machine(),
        "cores": len(models) or None,
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }
    return {"versions": versions, "machine": machine}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--rounds", type=int, default=15, help="timed passes of each path")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for n, num_keep in SIZES:
        for temperature in TEMPERATURES:
            rows.append(measure(n, num_keep, temperature, options.rounds, options.seed))
            print(line(rows[-1]), flush=True)
    if options.output:
        command = (
            f"python benchmarks/relaxed_topk.py --rounds {options.rounds} --seed {options.seed}"
        )
        record = {"command": command, "seed": options.seed, **environment(), "results": rows}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
