"""This module hides secrets in addresses of the form `scheme://user:password@host/path?options`."""

import urllib.parse


def shown(tracking_uri: str) -> str:
    """Returns an address in a form that anyone may read: without user, password and options."""
    _, scheme, address = split(tracking_uri)
    return scheme + (address if address.startswith("/") else address.partition("?")[0])


def without_account(text: str, tracking_uri: str) -> str:
    """Returns a message, such as a database driver's, with the user and password of an address replaced by `***`."""
    account, _, _ = split(tracking_uri)
    _, _, password = account.partition(":")
    for secret in (account, password, urllib.parse.unquote(password)):
        text = text.replace(secret, "***") if secret else text
    return text


def split(tracking_uri: str) -> tuple[str, str, str]:
    """Splits an address into its account, its scheme and the rest. A path, which starts with `/`, has no account.

    Returns:
        The user with the password (the empty string if there is no account), the scheme up to and with `//`, the rest.
    """
    scheme, mark, rest = tracking_uri.partition("://")
    if not mark or rest.startswith("/"):
        return "", scheme + mark, rest
    account, _, address = rest.rpartition("@")
    return account, scheme + mark, address
