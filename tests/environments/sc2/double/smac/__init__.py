"""Stands in for the package `smac` where it is not installed: see `env`."""
