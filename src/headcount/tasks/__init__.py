"""Tasks: how data are read, which task head the model needs, and how quality is measured."""

from headcount.door.extras import needing

with needing("headcount.tasks"):
    from headcount.tasks.nli import NLI
    from headcount.tasks.task import Task

TASKS: dict[str, Task] = {"nli": NLI()}
"""The name on the command line -> the task."""
