"""Who may see what of an address: `scheme://user:password@host/path?options`."""

import urllib.parse


def shown(tracking_uri: str) -> str:
    """The address as anyone may read it: without user, password and options."""
    _, scheme, address = split(tracking_uri)
    return scheme + (address if address.startswith("/") else address.partition("?")[0])


def without_account(text: str, tracking_uri: str) -> str:
    """A message, of a database driver for one, without the user and password of that address."""
    account, _, _ = split(tracking_uri)
    _, _, password = account.partition(":")
    for secret in (account, password, urllib.parse.unquote(password)):
        text = text.replace(secret, "***") if secret else text
    return text


def split(tracking_uri: str) -> tuple[str, str, str]:
    """(user:password, scheme://, the rest); a file's path has no account in front, whatever it holds."""
    scheme, mark, rest = tracking_uri.partition("://")
    if not mark or rest.startswith("/"):
        return "", scheme + mark, rest
    account, _, address = rest.rpartition("@")
    return account, scheme + mark, address
