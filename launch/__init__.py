"""Command-line front doors: flags in, one call, a summary out. The one place that knows every other."""
