"""Pure functions on tensors, the mathematics that training, diagnostics and figures share; they hold no variables."""
