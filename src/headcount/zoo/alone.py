"""Load saved models where headcount is not imported, as a user without headcount would.

This file is run as a program that imports transformers only. It waits at a socket and forks for
each client, so that imports are paid for once. A client names a folder, a class, a file with inputs
and a file for the outputs. The answer is an error, or an empty text. The program ends when its
standard input is closed.
"""

import os
import runpy
import signal
import sys
import threading
import warnings
from importlib import import_module
from multiprocessing.connection import Connection, Listener
from pathlib import Path

import torch
import transformers
import transformers.models.llama.modeling_llama  # imports before the fork what most models need

PATIENCE_S = 120
"""The most seconds for one folder."""


def load(folder: str, module: str, name: str, experts: str, inputs: str, output: str) -> str:
    """Load a folder, run the model, and save its weights and outputs to a file.

    Returns:
        The error of loading; empty if it loads.
    """
    try:
        model_class = getattr(import_module(module), name)
        model = model_class.from_pretrained(folder, experts_implementation=experts).eval()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    given = torch.load(inputs)
    transformers.set_seed(0)
    with torch.no_grad():
        result = model(**given)
    # Run as a file: importing it as a module would import headcount.
    tensors_of = runpy.run_path(str(Path(__file__).with_name("outputs.py")))["tensors_of"]
    torch.save({"weights": model.state_dict(), "outputs": dict(tensors_of(result))}, output)
    return ""


def serve(client: Connection) -> None:
    """Answer one client until it closes the connection."""
    try:
        while True:
            asked = client.recv()
            signal.alarm(PATIENCE_S)
            try:
                client.send(load(*asked))
            except Exception as error:
                client.send(f"it loads and does not run: {type(error).__name__}: {error}")
            signal.alarm(0)
    except EOFError:
        return


def main(address: str) -> None:
    """Listen at a socket until standard input is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    assert "headcount" not in sys.modules
    with Listener(address, "AF_UNIX", backlog=64) as listener:
        threading.Thread(target=_end_with_input, args=(address,), daemon=True).start()
        while True:
            client = listener.accept()
            if os.fork() == 0:
                serve(client)
                os._exit(0)
            client.close()


def _end_with_input(address: str) -> None:
    sys.stdin.read()
    Path(address).unlink(missing_ok=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
