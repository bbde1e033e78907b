"""Real pretrained models: where their folders are, and a process that loads without headcount."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import pytest

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ROOT.parent / "shared" / "real_models"
MAKE = BESIDE / "make.py"
CACHE = ROOT / ".cache" / "real_models"

NEEDS = {"smollm2": ("gguf",), "dinov2-small": ("onnx",)}


@functools.cache
def real_model(name: str) -> Path:
    """The folder of a model; the test is skipped if there is none and none can be made.

    ``HEADCOUNT_REAL_MODELS`` may name a folder that holds them. Else they are looked for beside the
    project, and made there is a script for it, once, into a folder that git ignores.
    """
    given = os.environ.get("HEADCOUNT_REAL_MODELS")
    for place in (Path(given) if given else CACHE, BESIDE):
        if (place / name / "config.json").is_file():
            return place / name
    if not MAKE.is_file():
        pytest.skip(f"no folder of {name}, and no script beside the project that makes it")
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package, reason=f"making {name} needs the package {package}")
    CACHE.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(CACHE / f"{name}.lock"):
        if not (CACHE / name / "config.json").is_file():
            _make(name)
    return CACHE / name


def _make(name: str) -> None:
    draft = CACHE / f"{name}.partial"
    command = [sys.executable, str(MAKE), name, str(draft)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=280)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        told = str(error.stderr or error).strip().splitlines()
        pytest.skip(f"{name} could not be made: {told[-1] if told else error}")
    draft.rename(CACHE / name)


_LOADS = """
import json, sys, torch, transformers
assert "headcount" not in sys.modules
torch.set_num_threads(1)
for line in sys.stdin:
    job = json.loads(line)
    try:
        model = getattr(transformers, job["cls"]).from_pretrained(job["folder"]).eval()
        with torch.no_grad():
            torch.save(model(**torch.load(job["inputs"]))[0], job["answer"])
        told = ""
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    print(json.dumps(told), flush=True)
"""


class Plain:
    """A process of its own that has transformers and never imports headcount."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOADS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def error(self, **job: Any) -> str:
        """Load ``folder`` as ``cls``, put ``inputs`` in, write ``answer``; what went wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({key: str(job[key]) for key in job}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)
