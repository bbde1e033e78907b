"""Whole runs: the data of a task, what trains and decides, and the result of each."""
