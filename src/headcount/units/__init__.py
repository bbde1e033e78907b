"""The vocabulary: what can be removed, what it costs, what must remain, what was decided."""
