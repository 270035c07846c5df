"""URLs whose authority is a list of hosts: drivers of clusters take ``scheme://user@a:1,[::1]:2/path?query``."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def split_url(url: str) -> SplitResult:
    """What urlsplit gives, with ``netloc`` as it was written. Raises ValueError where it or one of its hosts is wrong,
    or where a password may stand in the path.

    Newer urlsplits take brackets around the whole authority only, and refuse every list in which they surround one host
    of several.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return urlsplit(url)
    end = min((rest.index(sign) for sign in "/?#" if sign in rest), default=len(rest))
    netloc = rest[:end]
    user, at, hosts = netloc.rpartition("@")
    for host in hosts.split(","):
        urlsplit(f"{scheme}://{user}{at}{host}")
    parts = urlsplit(f"{scheme}://host{rest[end:]}")._replace(netloc=netloc)
    if netloc and "@" in parts.path:  # user and password end at the first "/", which a password may have had
        raise ValueError("an '@' behind a '/'")
    return parts
