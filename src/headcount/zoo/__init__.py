"""Tiny models of every type that transformers knows, and inputs for them."""
