"""The mathematics that training, diagnostics and figures share is here, as pure functions on tensors."""
