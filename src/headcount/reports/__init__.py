"""What pruning brought: measurements, the report, its table, the figure and the model card."""
