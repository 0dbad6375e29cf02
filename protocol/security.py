"""What each protection promises, against whom, and what breaks it: the one table of it, in words.

A grant, a plan, a transcript, a report and ``docs/protocols.md`` all say it from here. The facts are those of
the papers named as ``source`` and of how the engine runs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sealtrace.protocol.records import Protection
from sealtrace.protocol.spec import PARTIES, PROTECTIONS, TaskSpec


@dataclass(frozen=True, slots=True)
class SecurityModel:
    """What one protection promises.

    ``adversary`` is whom it holds against, ``threshold`` who may not put their views together or must be
    trusted, ``breach`` what comes out where that does not hold, ``more`` what more than two parties change.
    """

    protection: Protection
    adversary: str
    threshold: str
    breach: str
    source: str
    more: str = ""

    @property
    def name(self) -> str:
        """What a grant calls it."""
        return str(self.protection.name)

    @property
    def words(self) -> str:
        """The promise in one line."""
        return f"{self.adversary}; {self.threshold}"


_SEMI_HONEST: Final = "semi-honest: all parties follow the protocol, however closely they study what they see"
_NO_TWO: Final = "between two parties no third is trusted; among more, no two put together what they saw"
_IN_PAIRS: Final = (
    "more than two run it in pairs: the party that all pairs share learns its rows in common with one after "
    "another before it learns those common to all"
)
_SET_BREACH: Final = (
    "a party that deviates can put in keys it made up and so test whether the other holds them; the other's "
    "remaining keys stay hidden as far as the paper's proof goes, which is for parties that do not deviate"
)

SECURITY: Final[Mapping[Protection, SecurityModel]] = {
    each.protection: each
    for each in (
        SecurityModel(
            Protection.MPC_ABY3,
            adversary=_SEMI_HONEST,
            threshold="honest majority: no two of the three that compute put their shares together",
            breach="any two of them hold all shares: together they open every input and the result; "
            "one that deviates can falsify the result unnoticed",
            source="Mohassel and Rindal, ABY3, CCS 2018 (its semi-honest variant)",
        ),
        SecurityModel(
            Protection.MPC_CHEETAH,
            adversary=_SEMI_HONEST,
            threshold="the two that compute do not put their shares together; neither trusts the other, "
            "and there is no third to trust",
            breach="both together hold all shares, and so whatever other owners shared into them; one that "
            "deviates can falsify the result unnoticed, and may learn of the other's input",
            source="Huang, Lu, Hong and Ding, Cheetah, USENIX Security 2022",
        ),
        SecurityModel(
            Protection.MPC_SEMI2K_TRUSTED_FIRST_PARTY,
            adversary=_SEMI_HONEST,
            threshold="of those that compute, the one with the lowest address deals all randomness and is "
            "trusted by all others; apart from it, all but one may collude",
            breach="that one alone knows every mask: it can open every input and the result",
            source="after Cramer, Damgård, Escudero, Scholl and Xing, SPDZ2k, CRYPTO 2018, without its "
            "protection against deviation and with a dealer",
        ),
        SecurityModel(
            Protection.PSI_RR22,
            adversary=_SEMI_HONEST,
            threshold=_NO_TWO,
            breach=_SET_BREACH,
            more=_IN_PAIRS,
            source="Raghuraman and Rindal, Blazing Fast PSI, CCS 2022 (its semi-honest variant)",
        ),
        SecurityModel(
            Protection.PSI_ECDH,
            adversary=_SEMI_HONEST,
            threshold=_NO_TWO,
            breach=_SET_BREACH,
            more="three parties run it together: how many rows two of them share shows to all, which rows "
            "does not",
            source="Meadows, IEEE S&P 1986; Huberman, Franklin and Hogg, EC 1999; on Curve25519",
        ),
        SecurityModel(
            Protection.PSI_KKRT,
            adversary=_SEMI_HONEST,
            threshold=_NO_TWO,
            breach=_SET_BREACH,
            more=_IN_PAIRS,
            source="Kolesnikov, Kumaresan, Rosulek and Trieu, CCS 2016",
        ),
        SecurityModel(
            Protection.TEE_HARDWARE,
            adversary="malicious host: whoever runs the machine may do with it what they like, but not open "
            "the processor",
            threshold="the processor's vendor, the attested image and the measured algorithm are trusted; "
            "no owner, no requester and no operator is",
            breach="a fault of the processor or of the image, such as a side channel or an unpatched "
            "firmware, shows every input to whoever runs the machine",
            source="RFC 9334 for the roles; Intel SGX and TDX, AMD SEV-SNP, AWS Nitro for the platforms",
        ),
        SecurityModel(
            Protection.TEE_SIMULATED,
            adversary="none: whoever runs the machine can read every input and can sign anything",
            threshold="the party of the enclave is trusted by all owners; the sandbox holds the algorithm, "
            "not the host",
            breach="the host reads every input, and nothing shows it",
            source="no hardware stands behind it: for development, and where owners trust the host",
        ),
    )
}
"""Every protection that a step can name. One that is added to ``spec.PROTECTIONS`` is added here."""

UNUSED: Final = "no step of this version runs under it"


def in_words(protections: Protection) -> dict[str, str]:
    """The promise of each protection in ``protections``, by its name.

    One that the chain knows and no step can name has words too: a grant may list it.
    """
    return {str(each.name): _words(each) for each in Protection if each in protections}


def of_step(engine: str, protocol: str) -> SecurityModel:
    """What a step under ``protocol`` promises; the specification or the job has vouched for the name."""
    return SECURITY[PROTECTIONS[engine, protocol]]


def of_spec(spec: TaskSpec) -> Iterator[tuple[str, SecurityModel]]:
    """Each step's name with what protects it."""
    return ((step.id, of_step(step.engine, step.protocol)) for step in spec.steps)


def among(protection: Protection) -> str:
    """How many parties it runs among: ``3``, or ``2 to 3``."""
    (protocol,) = (name for (_, name), each in PROTECTIONS.items() if each is protection)
    least, most = PARTIES[protocol]
    return str(least) if least == most else f"{least} to {most}"


def sentences(models: Iterable[SecurityModel], parties: int) -> dict[str, str]:
    """The promises among so many parties, by name: with more than two, what that changes as well."""
    return {
        each.name: f"{each.words}; {each.more}" if each.more and parties > 2 else each.words
        for each in models
    }


def _words(protection: Protection) -> str:
    model = SECURITY.get(protection)
    return UNUSED if model is None else model.words
