"""Training a gated model: one's own loop, or transformers' Trainer."""
