"""HTTP proxies: the decision of the filesystem, which obstore gets too.

Every filesystem for which obstore can read decides by Python's own `urllib.request.getproxies` and
`proxy_bypass`: HTTP_PROXY and HTTPS_PROXY by the scheme of the endpoint, NO_PROXY with names,
suffixes and ``*``. ALL_PROXY and ranges of addresses in NO_PROXY are obeyed by none of them.
obstore would read the environment by other rules, so it is never left to.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

__all__ = ["gcs_session", "obstore_proxy", "proxy_of_aiohttp", "proxy_of_botocore"]

_DIRECT = {
    # Only an explicit proxy keeps obstore from the environment; this one is asked for nothing.
    "proxy_url": "http://127.0.0.1:9",
    "proxy_excludes": "*,0.0.0.0/0,::/0",
}


def proxy_of_botocore(endpoint: str, proxies: Mapping[str, str] | None) -> str | None:
    """Return the proxy of botocore's client, which decides when it is made; None if none."""
    if proxies is None:
        return _environment_proxy(endpoint)
    proxy = proxies.get(urlsplit(endpoint).scheme)
    return _with_scheme(proxy) if proxy else None


def _environment_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, as botocore decides; None if none."""
    parts = urlsplit(url)
    if _is_bypassed(parts.netloc):
        return None
    proxy = getproxies().get(parts.scheme)
    return _with_scheme(proxy) if proxy else None


def proxy_of_aiohttp(url: str) -> str | None:
    """Return the proxy for a URL as aiohttp decides with ``trust_env``, which adlfs sets.

    A port in NO_PROXY is not matched, and proxies to be spoken to by https are left out.
    """
    parts = urlsplit(url)
    if _is_bypassed(parts.hostname or ""):
        return None
    proxy = getproxies().get(parts.scheme)
    return None if not proxy or urlsplit(proxy).scheme in ("https", "wss") else proxy


def _is_bypassed(host: str) -> bool:
    try:
        return bool(proxy_bypass(host))
    except (OSError, TypeError):
        return False  # as botocore: a name that cannot be resolved, where the system resolves it


def _with_scheme(proxy: str) -> str:
    """Return the URL of a proxy, which may be written without ``http://``."""
    return proxy if "://" in proxy else f"http://{proxy.removeprefix('//')}"


def gcs_session(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return gcsfs's ``session_kwargs`` for the proxy of the environment.

    gcsfs by itself reaches the storage directly, though it asks for its credentials through the
    proxy. Not by ``trust_env`` where aiohttp has another way: with it, aiohttp refuses requests if
    the user's ``.netrc`` has an entry for any host.

    Parameters
    ----------
    options : mapping
        The user's options for the filesystem. Nothing is added to a proxy of their own.
    """
    given = options.get("session_kwargs") or {}
    proxy = _environment_proxy(options.get("endpoint_url") or _gcs_endpoint())
    if proxy is None or {"proxy", "trust_env", "connector"} & set(given):
        return {}
    return {"proxy": proxy} if _sessions_have_proxies() else {"trust_env": True}


def _gcs_endpoint() -> str:
    try:
        endpoint: str = importlib.import_module("gcsfs.core")._location()
    except (AttributeError, ImportError, TypeError):
        return "https://storage.googleapis.com"
    return endpoint


@cache
def _sessions_have_proxies() -> bool:
    session = importlib.import_module("aiohttp").ClientSession
    return "proxy" in inspect.signature(session.__init__).parameters


def obstore_proxy(proxy: str | None) -> dict[str, str]:
    """Return obstore's options that make it use a proxy, or none, whatever the environment says."""
    return dict(_DIRECT) if proxy is None else {"proxy_url": proxy}
