"""What an operator does at its node, over the node's REST API and with the operator's token."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from sealtrace.protocol.identifiers import Address, Hex32

TIMEOUT_S = 60.0


class OperatorRefused(RuntimeError):
    """A node's API did not do what it was asked; the message is the node's own."""


class Operator:
    """The operator of the node at ``url``."""

    def __init__(self, name: str, url: str, token: str) -> None:
        self.name = name
        headers = {"authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def add_algorithm(self, folder: Path) -> Hex32:
        """Take in a bundle and return its digest."""
        return Hex32(self._ask("POST", "/v1/algorithms", {"path": str(folder)})["digest"])

    def add_dataset(self, path: Path, name: str) -> Hex32:
        """Register a table and return the dataset's id."""
        return Hex32(self._ask("POST", "/v1/datasets", {"path": str(path), "name": name})["id"])

    def datasets(self) -> list[dict[str, Any]]:
        """The node's datasets, tables and parts of kept values alike."""
        return list(self._ask("GET", "/v1/datasets"))

    def grant(self, dataset: Hex32, algorithm: Hex32, requester: Address, **terms: Any) -> Hex32:
        """Let ``requester`` use ``dataset`` with ``algorithm`` from now on for ``days``."""
        now = int(time.time())
        order = {
            "dataset": dataset,
            "algorithm": algorithm,
            "requester": requester,
            "purpose": terms["purpose"],
            "uses": terms["uses"],
            "not_before": now - 60,
            "expires_at": now + terms["days"] * 86_400,
            "protections": list(terms["protections"]),
        }
        if "policy" in terms:
            order["policy"] = terms["policy"]
        return Hex32(self._ask("POST", "/v1/grants", order)["id"])

    def grants(self) -> list[dict[str, Any]]:
        """The grants this node issued, as they stand."""
        return list(self._ask("GET", "/v1/grants"))

    def revoke(self, grant: Hex32) -> None:
        """End a grant."""
        self._ask("POST", f"/v1/grants/{grant}/revoke")

    def stop(self, task: Hex32) -> None:
        """End a task on this node's data."""
        self._ask("POST", f"/v1/tasks/{task}/stop")

    def task(self, task: Hex32) -> dict[str, Any]:
        """What the node knows of a task."""
        return dict(self._ask("GET", f"/v1/tasks/{task}"))

    def evidence(self, into: Path) -> Path:
        """Export the evidence log to a file."""
        with self._client.stream("GET", "/v1/evidence") as response, into.open("wb") as file:
            if response.status_code != httpx.codes.OK:
                raise OperatorRefused(f"{self.name}: {response.read().decode(errors='replace')[:500]}")
            self._copy(response.iter_bytes(), file)
        return into

    @staticmethod
    def _copy(chunks: Iterator[bytes], file: Any) -> None:
        for chunk in chunks:
            file.write(chunk)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        try:
            response = self._client.request(method, path, json=body)
        except httpx.HTTPError as cause:
            raise OperatorRefused(f"{self.name}: {method} {path}: {cause}") from cause
        if response.status_code >= 400:
            raise OperatorRefused(f"{self.name}: {method} {path}: {response.text[:500]}")
        return response.json()
