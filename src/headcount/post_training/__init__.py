"""Deciding and tuning without training: a few batches are enough."""
