"""Save and reload cut models through transformers' own calls."""
