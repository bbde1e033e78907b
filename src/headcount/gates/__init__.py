"""Gates on a live model, which can be removed without a trace."""
