"""How an address is asked: over https, with the user's certificates, and the token for the hub.

with open_session() as session:
    response = session.get(address)

Proxies and `.netrc` are those that requests finds.
"""

import re
from pathlib import Path
from typing import Any, NoReturn

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from experiments.system.hub import hub_endpoint, hub_token, variable

RETRIES = 3
LONGEST_WAIT = 10  # seconds that an address may ask us to wait before a retry
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXY_HINTS = {
    403: "the proxy forbids it: NO_PROXY names hosts that are asked without it",
    407: "HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT tells the proxy who you are",
}
HUB_HINTS = {
    401: "HF_TOKEN tells the hub who you are",
    403: "HF_TOKEN names someone who may, HTTPS_PROXY a proxy",
    429: "wait some minutes; with HF_TOKEN, the hub gives more",
}
HINTS = {
    401: "a line in .netrc tells who you are",
    403: "HTTPS_PROXY names a proxy that may",
    407: PROXY_HINTS[407],
    429: "wait some minutes",
}


class HttpsOnly(HTTPAdapter):
    """Takes the place of what would ask an address that is not https, or is redirected to one."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> NoReturn:
        """Refuses the request."""
        raise requests.exceptions.InvalidSchema(f"{request.url} is not https")


class HubAdapter(HTTPAdapter):
    """Sends the user's token with what is asked of the hub itself.

    As a header of the request, or of the session, requests would let the token go to another
    address of the same host, and `.netrc` would replace it. Here it is put on a copy of the
    request, so that a redirect, which starts from the request, knows nothing of it.
    """

    def __init__(self, token: str, **options: Any) -> None:
        self.token = token
        super().__init__(**options)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Returns the answer to the request with the token."""
        request = request.copy()
        request.headers["Authorization"] = f"Bearer {self.token}"
        return super().send(request, **options)


def open_session() -> requests.Session:
    """Returns a session that tries again, over https or to the mirror that the user names.

    Raises:
        ValueError: when what the environment says of mirror, token or certificates cannot be.
    """
    retry = Retry(
        RETRIES,
        backoff_factor=0.5,
        retry_after_max=LONGEST_WAIT,
        status_forcelist=(429, 500, 502, 503, 504),
        raise_on_status=False,  # the last answer tells more
    )
    session = requests.Session()
    session.verify = certificates()
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.mount("http://", HttpsOnly())
    token = hub_token()
    to_hub = HubAdapter(token[0], max_retries=retry) if token else HTTPAdapter(max_retries=retry)
    session.mount(f"{hub_endpoint()}/", to_hub)
    return session


def certificates() -> str | bool:
    """Returns the file or folder of the certificates that the user trusts; True is for certifi's.

    Raises:
        ValueError: when it is not there.
    """
    for name in CERTIFICATES:
        if path := variable(name):
            if not Path(path).exists():
                raise ValueError(f"{name} names {path}, which is not there: correct or unset it")
            return path
    return True


def hint_at(error: requests.RequestException | ValueError, address: str) -> str:
    """Returns what helps against the error of an address, to be put behind it, or nothing."""
    is_hubs = address.startswith(f"{hub_endpoint()}/")
    hint = None
    if isinstance(error, requests.exceptions.SSLError):
        hint = f"{', '.join(CERTIFICATES[:-1])} or {CERTIFICATES[-1]} names whom you trust"
    elif by_proxy := re.search(r"Tunnel connection failed: (\d+)", str(error)):
        hint = PROXY_HINTS.get(int(by_proxy[1]))
    elif isinstance(error, requests.HTTPError):
        hint = hint_at_status(error.response.status_code, is_hubs)
    mirror = "HF_ENDPOINT can name a mirror of the hub" if is_hubs else None
    return "".join(f"; {words}" for words in (hint, mirror) if words)


def hint_at_status(status: int, is_hubs: bool) -> str | None:
    """Returns what helps where an address, or the hub itself, answers with a status, or None."""
    if is_hubs and status in (401, 403) and (token := hub_token()):
        return f"the hub refuses the token of {token[1]}: renew it, or leave it out"
    return (HINTS | HUB_HINTS if is_hubs else HINTS).get(status)
