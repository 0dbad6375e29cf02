"""Which clauses of which framework each check speaks to. A check helps to show that a clause is met; no check
alone shows it.

GDPR: Regulation (EU) 2016/679. PIPL: Personal Information Protection Law of the PRC (2021). ISO 27001:
Annex A of ISO/IEC 27001:2022. NIST 800-53: SP 800-53 revision 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

NAMES: Final = ("GDPR", "PIPL", "ISO 27001", "NIST 800-53")

_LAWFUL: Final = ("5(1)(a), 6, 28(3)(a)", "13, 21, 23", "A.5.15, A.8.3", "AC-3, PT-2")
_PURPOSE: Final = ("5(1)(b), 28(3)(a)", "6, 21", "A.5.34, A.8.3", "AC-3, PT-3")
_LOGGED: Final = ("5(2), 30", "51, 54", "A.8.15, A.5.28", "AU-2, AU-3, AU-12")
_KEPT: Final = ("5(1)(f), 5(2)", "51, 54", "A.5.33, A.8.15", "AU-9, AU-10")
_VOTED: Final = ("24, 26", "20, 51", "A.5.3, A.8.32", "AC-5, CM-3")
_SHOWN: Final = ("5(2)", "54", "A.5.28, A.5.33", "AU-9, AU-10, SI-7")

_CLAUSES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "EV-A01": _LOGGED,
    "EV-A02": ("5(2), 30", "54", "A.8.15", "AU-3, AU-10"),
    "EV-A03": ("5(1)(a), 28(3)(a)", "21", "A.8.3, A.8.16", "AC-3, AU-6"),
    "EV-C01": ("5(2)", "54", "A.8.15, A.8.17", "AU-8, AU-12"),
    "EV-D01": ("5(1)(e), 28(3)(g)", "19, 21, 47", "A.8.10", "MP-6, SI-12"),
    "EV-E01": ("24, 28(3)(a), 32", "51, 54", "A.5.23, A.8.15", "AU-12, CA-2"),
    "EV-E02": ("5(2), 28(3)(a)", "21, 54", "A.5.28, A.8.24", "AU-10, SI-7"),
    "EV-E03": ("25, 32", "51", "A.5.23, A.8.24, A.8.26", "SC-39, SI-7"),
    "EV-E04": ("5(1)(e), 28(3)(g)", "19, 21, 47", "A.8.10", "MP-6, SI-12"),
    "EV-E05": ("5(1)(d), 5(2)", "8, 54", "A.5.28, A.5.33", "AU-10, SI-7"),
    "EV-E06": ("5(2), 24", "51, 54", "A.5.28, A.5.36", "AU-10, CA-2"),
    "EV-J01": ("5(2), 24", "51, 54", "A.5.15, A.5.36", "AC-3, AU-6"),
    "EV-K01": ("5(1)(b), 5(1)(e)", "6, 19", "A.5.9, A.5.33", "CM-8, SI-12"),
    "EV-L01": _KEPT,
    "EV-L02": ("5(2), 31, 58(1)(e)", "54, 63", "A.5.28, A.5.33", "AU-9, AU-11"),
    "EV-L03": ("5(2)", "51, 54", "A.8.15, A.8.17", "AU-9, AU-12"),
    "EV-O01": ("5(2), 31", "63", "A.5.28, A.8.24", "AU-10, SC-13"),
    "EV-R01": _KEPT,
    "EV-R02": ("5(1)(d), 5(2)", "8, 54", "A.5.28, A.8.15", "AU-10, SI-7"),
    "EV-R03": _LAWFUL,
    "EV-R04": _KEPT,
    "EV-X01": ("5(1)(b), 28(3)(a)", "6, 21", "A.8.19, A.8.32", "CM-3, SI-7"),
    "EV-X02": ("5(1)(c), 32", "23, 51", "A.8.12, A.8.16, A.8.20", "AC-4, SC-8, AU-6"),
    "EV-X03": ("25, 32", "51", "A.8.24", "SC-8, SC-13"),
    "PR-01": _SHOWN,
    "PR-02": _SHOWN,
    "PR-03": _SHOWN,
    "PR-04": _SHOWN,
    "PR-05": _SHOWN,
    "PR-06": _SHOWN,
    "ST-A01": ("25, 28(3)(a), 32", "51", "A.8.19", "CM-3, CM-7, SI-7"),
    "ST-A02": ("24, 25", "51, 55", "A.5.3, A.8.32", "CM-3, CM-5"),
    "ST-C01": _KEPT,
    "ST-C02": _KEPT,
    "ST-D01": ("6, 7(3), 17", "15, 47", "A.8.3, A.8.10", "AC-3, SI-12"),
    "ST-D02": ("5(1)(d), 30", "8, 51", "A.5.9, A.5.33", "CM-8, SI-7"),
    "ST-E01": ("5(2)", "54", "A.8.15", "AU-3, SI-10"),
    "ST-G01": _LAWFUL,
    "ST-G02": ("5(1)(c), 28(3)(a)", "6, 21", "A.5.15, A.8.3", "AC-3, AC-6"),
    "ST-G03": ("5(1)(e), 28(3)(a)", "19, 21", "A.5.18, A.8.3", "AC-2, AC-3"),
    "ST-G04": _PURPOSE,
    "ST-G05": ("25, 32", "51", "A.8.3, A.8.24", "AC-3, SC-13"),
    "ST-G06": ("28(2), 28(3)(a)", "21, 23", "A.5.18", "AC-3, AC-5"),
    "ST-G07": ("5(2), 6, 24", "13, 15, 23", "A.5.15, A.5.18", "AC-2, AC-6, AC-21"),
    "ST-G08": ("5(1)(c), 25", "6, 51", "A.8.11, A.8.12", "AC-4, SI-19"),
    "ST-G09": ("28(2), 30(1)(d)", "21, 23", "A.5.20, A.8.3", "AC-3, AC-21"),
    "ST-I01": ("5(2)", "54", "A.5.33, A.8.24", "AU-10, SC-13"),
    "ST-N01": ("24, 32", "51", "A.5.16, A.5.18", "AC-2, IA-4"),
    "ST-N02": ("32", "51", "A.5.17, A.8.24", "IA-5, SC-12"),
    "ST-P01": ("28(1), 32", "21, 51", "A.5.16, A.5.20", "AC-2, AC-3"),
    "ST-P02": ("6, 32", "23, 51", "A.5.16, A.8.3", "AC-2, AC-3"),
    "ST-R01": ("5(2), 24", "54", "A.5.36, A.8.15", "AC-3, AU-6"),
    "ST-S01": ("5(1)(f), 5(2)", "54", "A.5.33, A.8.16", "AU-10, SI-7"),
    "ST-T01": ("5(2), 32", "51, 54", "A.8.16", "AC-3, SI-7"),
    "ST-T02": _LAWFUL,
    "ST-T03": ("5(1)(d), 5(2)", "8, 54", "A.5.28, A.5.33", "AU-10, SI-7"),
    "ST-T04": ("5(1)(d), 33", "8, 57", "A.5.25, A.8.16", "AU-6, SI-7"),
    "ST-T05": ("5(2), 30", "54", "A.8.15, A.8.16", "AU-6, AU-12"),
    "ST-T06": ("5(2)", "54", "A.5.28", "AU-10"),
    "ST-T07": _PURPOSE,
    "ST-V01": _VOTED,
    "ST-V02": _VOTED,
    "ST-V03": ("24", "51", "A.5.2, A.5.3, A.8.2", "AC-5, AC-6"),
    "ST-V04": ("24, 25", "51", "A.8.9, A.8.32", "CM-3, CM-5"),
    "ST-V05": ("25, 32", "51", "A.8.19, A.8.32", "CM-3, SI-7"),
}


def frameworks(rule: str) -> dict[str, Sequence[str]]:
    """The clauses that the check ``rule`` speaks to, by framework."""
    told = _CLAUSES.get(rule)
    return {} if told is None else {name: each.split(", ") for name, each in zip(NAMES, told, strict=True)}
