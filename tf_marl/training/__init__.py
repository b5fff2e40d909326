"""Training: collecting experience, learning from it, evaluating, and checkpoints."""
