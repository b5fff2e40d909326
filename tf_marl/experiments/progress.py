"""Messages to a person who waits for an experiment."""

import sys


def tell(text: str) -> None:
    """Writes a line to stderr, so that stdout holds results alone."""
    print(text, file=sys.stderr, flush=True)
