"""How a worker opens, watches and closes a session at its own gateway."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For plain HTTP on loopback, twice a second: without it each call reads all authorities' certificates, which
is 20 ms of CPU. It trusts nobody, so an ``https`` address would fail rather than be believed."""


class GatewayRefused(Exception):
    """The gateway does not open this session; the message says what the chain holds against it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"the gateway refused ({code}): {detail}")
        self.code = code
        self.detail = detail


class GatewayUnavailable(Exception):
    """This node's gateway does not answer; see that its process runs."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """Where one peer's gateway is, and the certificate it must show."""

    address: str
    url: str
    certificate: str


@dataclass(frozen=True, slots=True)
class GatewayControl:
    """A client of ``/control/sessions``. ``url`` is the loopback address, ``token`` the node's
    control token."""

    url: str
    token: str
    timeout_s: float = 10.0

    def open(self, task: str, peers: Sequence[Introduction]) -> str:
        """Open a session and return the engine's token for it.

        Raises:
            GatewayRefused: see its message.
            GatewayUnavailable: no answer.
        """
        body = {
            "task": task,
            "peers": [
                {"address": peer.address, "url": peer.url, "certificate": peer.certificate} for peer in peers
            ],
        }
        return str(self._call("POST", "", json=body)["token"])

    def report(self, task: str) -> dict[str, Any]:
        """Return state, reason, and counters by peer.

        Raises:
            GatewayRefused: no such session is open.
            GatewayUnavailable: no answer.
        """
        return self._call("GET", f"/{task}")

    def close(self, task: str, *, left: str | None = None) -> dict[str, Any]:
        """Close a session, telling the peers why where ``left`` is given; return the last report.

        Raises:
            GatewayRefused: no such session is open.
            GatewayUnavailable: no answer.
        """
        return self._call("DELETE", f"/{task}", params={"left": left} if left else None)

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            response = httpx.request(
                method,
                f"{self.url}/control/sessions{path}",
                headers={"authorization": f"Bearer {self.token}"},
                timeout=self.timeout_s,
                trust_env=False,
                verify=NO_TLS,
                **arguments,
            )
            answer: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise GatewayUnavailable(f"{self.url}: {error}") from error
        if response.status_code != httpx.codes.OK:
            raise GatewayRefused(str(answer.get("code")), str(answer.get("detail")))
        return answer
