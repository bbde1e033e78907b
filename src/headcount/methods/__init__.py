"""Pruning methods, one a file: from gates and evidence to scores."""
