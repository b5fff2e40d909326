"""The reproduction of the paper: its first update, figures, claims and theorems, beside its published numbers."""
