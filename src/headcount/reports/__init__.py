"""The results of pruning: measurements, the report, its table, the heat map and the model card."""
