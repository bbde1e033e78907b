"""What methods may look at: weights, gradients, attention maps, outputs."""
