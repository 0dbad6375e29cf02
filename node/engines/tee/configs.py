"""An algorithm's secret values on their way into the sandbox: held to its manifest, given without salts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sealtrace.algorithms.bundles import Manifest
from sealtrace.node.engines.errors import BadInput
from sealtrace.protocol.canonical import canonical, parse
from sealtrace.protocol.secret_config import BadSecretConfig, SecretConfig, check, read_secret_config


def read_config(path: Path) -> SecretConfig:
    """The values at ``path`` with their salts.

    Raises:
        BadInput: there are none; no value is quoted.
    """
    try:
        return read_secret_config(path.read_bytes())
    except OSError as error:
        raise BadInput("unreadable", f"{path.name}: {error.strerror}") from error
    except BadSecretConfig as error:
        raise BadInput("config_unfit", f"{path.name}: {error}") from error


def held_values(config: SecretConfig, manifest: Manifest) -> dict[str, Any]:
    """The values by name, each of them the one that ``manifest`` commits to, as the algorithm reads them.

    Raises:
        ConfigUnfit: one is missing, stray or altered.
    """
    check(config, manifest.secret_config or {})
    plain = canonical(config.plain())
    found: dict[str, Any] = parse(plain, limit_bytes=len(plain), large=True)
    return found
