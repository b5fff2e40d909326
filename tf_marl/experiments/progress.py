"""What a person who waits for an experiment sees."""

import sys


def tell(text: str) -> None:
    """Writes a line to stderr, where it is in nobody's way who reads the results from stdout."""
    print(text, file=sys.stderr, flush=True)
