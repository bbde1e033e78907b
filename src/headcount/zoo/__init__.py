"""Tiny models of every type that transformers has, their inputs, and the checks of coverage."""
