"""Evidence for methods: norms of weights, gradients of gates, attention maps, outputs."""
