"""The paper's own experiments, done again: its first update, its figures, its claims, and its published numbers."""
