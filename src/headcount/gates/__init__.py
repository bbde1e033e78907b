"""Gates on a live model: attached reversibly, taken off again without a trace."""
