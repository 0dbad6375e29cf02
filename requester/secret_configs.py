"""An algorithm's secret values, made and opened by their owner: files in, files out."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from pydantic import ValidationError

from sealtrace.algorithms.bundles import MANIFEST, Bundle, Manifest, load
from sealtrace.protocol.canonical import parse
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.fingerprint import SALT_BYTES
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.secret_config import (
    SecretConfig,
    ValueOpening,
    open_value,
    read_secret_config,
    read_values,
    sealed,
)
from sealtrace.requester.errors import ConfigNotTaken, SecretsInBundle, SecretsThere
from sealtrace.requester.whole_files import write_whole


def seal_values(folder: Path, values: Path, out: Path) -> tuple[Bundle, SecretConfig]:
    """Commit to the ``values`` in the manifest of the bundle in ``folder``; write them with salts to ``out``.

    The manifest's commitments are replaced, so the bundle's digest is another. The secrets are written first,
    with mode 0600: a manifest never commits to what nobody can open.

    Raises:
        BundleMissing, BadBundle: there is no bundle.
        ConfigNotTaken: it is none that runs in an enclave.
        SecretsInBundle: a file with secret values is inside the folder.
        SecretsThere: ``out`` exists.
        BadSecretConfig, NotCanonical: the values are none.
        FileUnwritable: a file cannot be written.
    """
    for each in (values, out):
        if each.resolve().is_relative_to(folder.resolve()):
            raise SecretsInBundle(each, folder)
    if out.exists():
        raise SecretsThere(out)
    bundle = load(folder)
    plain = read_values(values.read_bytes())
    config = sealed(plain, [secrets.token_bytes(SALT_BYTES) for _ in plain])
    manifest = _committing(bundle, config)
    write_whole(out, config.document() + b"\n")
    mode = (folder / MANIFEST).stat().st_mode
    write_whole(folder / MANIFEST, manifest)
    (folder / MANIFEST).chmod(mode)
    return load(folder), config


def write_opening(config: Path, algorithm: Hex32, name: str, out: Path) -> ValueOpening:
    """Write to ``out`` what opens the value called ``name``, of what ``config`` holds, and no other.

    Raises:
        BadSecretConfig: ``config`` holds no secret values.
        NoSuchValue: it has none of that name.
        FileUnwritable: ``out`` cannot be written.
    """
    opened = open_value(read_secret_config(config.read_bytes()), algorithm, name)
    write_whole(out, opened.document() + b"\n")
    return opened


def _committing(bundle: Bundle, config: SecretConfig) -> bytes:
    if bundle.manifest.engine != "tee":
        raise ConfigNotTaken(
            f"{bundle.manifest.name} runs in no enclave (engine {bundle.manifest.engine}): only there are "
            "secret values held to the manifest"
        )
    document = {**parse(bundle.members[MANIFEST]), "secret_config": config.commitments()}
    try:
        Manifest.model_validate(document)
    except ValidationError as cause:
        raise ConfigNotTaken(first_fault(cause.errors(), MANIFEST)) from cause
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
