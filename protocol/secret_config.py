"""Secret values of an algorithm's configuration: committed to in its manifest, opened one by one.

The manifest holds, under each name, ``SHA-256(salt ‖ JCS(value))`` with a salt of 32 bytes for that value
alone, so the algorithm's digest covers which values there are and what each of them is. Whoever has the
values and salts can open one to a regulator and keep the others: a commitment without its salt tells nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sealtrace.protocol.canonical import NotCanonical, canonical, parse
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.fingerprint import SALT_BYTES, BadSalt
from sealtrace.protocol.identifiers import Hex32, Hex32Field, hex32, raw

VERSION: Final = "sealtrace.secret-config/1"
MAX_VALUES = 256
MAX_VALUES_BYTES = 1 << 20
"""Of the values as JSON, all together."""
MAX_DOCUMENT_BYTES = MAX_VALUES_BYTES + MAX_VALUES * 256
"""Of the values with their salts and names."""

ValueName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Commitments = Annotated[dict[ValueName, Hex32Field], Field(min_length=1, max_length=MAX_VALUES)]
"""What a manifest says under ``secret_config``."""


class BadSecretConfig(ValueError):
    """A document of secret values is malformed; the message names the place and quotes no value."""


class ConfigUnfit(ValueError):
    """Secret values are not those that the algorithm's manifest commits to."""


class ValueMissing(ConfigUnfit):
    """The manifest commits to a value that was not given: give the whole file that was made with it."""


class ValueStray(ConfigUnfit):
    """A value was given of which the manifest knows nothing: give the file that was made with it."""


class ValueAltered(ConfigUnfit):
    """A value or its salt is not the committed one: give the file that was made with this manifest."""


class NoSuchValue(LookupError):
    """There is no secret value of this name; the message lists those there are."""


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Secret(_Document):
    """One value, as JSON, and its salt."""

    value: Any = Field(repr=False)
    salt: Hex32Field = Field(repr=False)

    @property
    def commitment(self) -> Hex32:
        """What a manifest holds for it."""
        return commit(self.value, raw(self.salt))


class SecretConfig(_Document):
    """All secret values of one manifest: what its owner keeps, and gives to an enclave that it trusts."""

    version: Literal["sealtrace.secret-config/1"] = VERSION
    values: Annotated[dict[ValueName, Secret], Field(min_length=1, max_length=MAX_VALUES)]

    def commitments(self) -> dict[str, Hex32]:
        """What the manifest says of them."""
        return {name: each.commitment for name, each in sorted(self.values.items())}

    def plain(self) -> dict[str, Any]:
        """The values without their salts: what the algorithm is given."""
        return {name: each.value for name, each in self.values.items()}

    def document(self) -> bytes:
        """The canonical JSON, with values and salts."""
        return canonical(self.model_dump(mode="json"))


class ValueOpening(_Document):
    """One value of the configuration of ``algorithm``, with what shows that it is the committed one."""

    algorithm: Hex32Field
    name: ValueName
    value: Any = Field(repr=False)
    salt: Hex32Field = Field(repr=False)

    def document(self) -> bytes:
        """The canonical JSON."""
        return canonical(self.model_dump(mode="json"))


def commit(value: Any, salt: bytes) -> Hex32:
    """``SHA-256(salt ‖ JCS(value))``, what a manifest holds.

    Raises:
        BadSalt: ``salt`` is not 32 bytes.
        NotCanonical: ``value`` is nothing that JSON carries exactly.
    """
    if len(salt) != SALT_BYTES:
        raise BadSalt(f"the salt has {len(salt)} bytes, not {SALT_BYTES}")
    return hex32(hashlib.sha256(salt + canonical(value)).digest())


def sealed(values: Mapping[str, Any], salts: Sequence[bytes]) -> SecretConfig:
    """The configuration of ``values``, each with one of ``salts``, which are fresh and secret.

    Raises:
        BadSecretConfig: there are none or too many, too large or nested too deep, or a name is none.
        BadSalt: a salt is not 32 bytes, or there is not one for each value.
        NotCanonical: a value is nothing that JSON carries exactly.
    """
    if len(set(salts)) != len(values):
        raise BadSalt(f"{len(values)} values need as many different salts, not {len(set(salts))}")
    if len(canonical(dict(values))) > MAX_VALUES_BYTES:
        raise BadSecretConfig(f"the values are more than {MAX_VALUES_BYTES} bytes: make them smaller")
    for each in salts:
        commit(None, each)
    pairs = zip(values.items(), salts, strict=True)
    found = {name: {"value": value, "salt": hex32(salt)} for (name, value), salt in pairs}
    made = _valid(SecretConfig, {"version": VERSION, "values": found})
    return read_secret_config(made.document())  # nested too deep, they could be written and never read


def read_values(text: bytes) -> dict[str, Any]:
    """Read plain values by name, as their owner wrote them.

    Raises:
        BadSecretConfig: it is no JSON object.
    """
    found = _parsed(text)
    if not isinstance(found, dict):
        raise BadSecretConfig("give an object: a name and a value for each")
    return found


def read_secret_config(text: bytes) -> SecretConfig:
    """Read values with their salts, strictly.

    Raises:
        BadSecretConfig: it is no such document.
    """
    return _valid(SecretConfig, _parsed(text))


def read_value_opening(text: bytes) -> ValueOpening:
    """Read the opening of one value, strictly.

    Raises:
        BadSecretConfig: it is none.
    """
    return _valid(ValueOpening, _parsed(text))


def is_object(text: bytes) -> bool:
    """Whether ``text`` is a JSON object that could be secret values, with salts or without."""
    try:
        read_values(text)
    except BadSecretConfig:
        return False
    return True


def check(config: SecretConfig, commitments: Mapping[str, Hex32]) -> None:
    """Hold every value to what a manifest commits to.

    Raises:
        ValueMissing, ValueStray, ValueAltered: the first one by name that is not the committed one.
    """
    if missing := set(commitments) - set(config.values):
        raise ValueMissing(f"secret value {min(missing)} is missing: the manifest commits to it")
    if stray := set(config.values) - set(commitments):
        raise ValueStray(f"secret value {min(stray)} is not in the manifest")
    for name, each in sorted(config.values.items()):
        if each.commitment != commitments[name]:
            raise ValueAltered(f"secret value {name} is not the one that the manifest commits to")


def open_value(config: SecretConfig, algorithm: Hex32, name: str) -> ValueOpening:
    """Open the value called ``name`` alone.

    Raises:
        NoSuchValue: there is none.
    """
    if name not in config.values:
        raise NoSuchValue(f"there is no secret value {name!r}; there are {', '.join(sorted(config.values))}")
    found = config.values[name]
    return ValueOpening(algorithm=algorithm, name=name, value=found.value, salt=found.salt)


def why_not_committed(opened: ValueOpening, algorithm: Hex32, commitments: Mapping[str, Hex32]) -> str | None:
    """Why ``opened`` is no value of ``algorithm``, whose manifest has ``commitments``, or ``None``."""
    if opened.algorithm != algorithm:
        return f"it is of the algorithm {opened.algorithm}, and the bundle is {algorithm}"
    if opened.name not in commitments:
        return f"the manifest commits to no value {opened.name!r}"
    if commit(opened.value, raw(opened.salt)) != commitments[opened.name]:
        return "value and salt do not give the commitment in the manifest"
    return None


_D = TypeVar("_D", SecretConfig, ValueOpening)


def _valid(kind: type[_D], found: Any) -> _D:
    try:
        return kind.model_validate(found)
    except ValidationError as cause:
        raise BadSecretConfig(first_fault(cause.errors(include_input=False))) from None


def _parsed(text: bytes) -> Any:
    """JSON of which every value has a canonical form. What is wrong with it is told without quoting it."""
    try:
        found = parse(text, limit_bytes=MAX_DOCUMENT_BYTES, large=True)
        canonical(found)
    except NotCanonical:
        raise BadSecretConfig(
            f"not JSON that everybody reads alike, in UTF-8, of at most {MAX_DOCUMENT_BYTES} bytes"
        ) from None
    return found
