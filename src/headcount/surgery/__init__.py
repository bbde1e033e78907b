"""From a decision to a smaller model; the only folder that makes smaller modules."""
