"""Save and reload smaller models through transformers' own calls."""
