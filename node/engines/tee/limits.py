"""What one run in the sandbox may use."""

from __future__ import annotations

from dataclasses import dataclass, fields

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one run may use; every value is a positive integer."""

    memory_bytes: int = 1024 * MIB
    """All processes together under a memory cgroup; otherwise the address space of each."""
    cpu_s: int = 3_600
    """CPU seconds of each process."""
    wall_s: int = 7_200
    """Seconds from start to end."""
    processes: int = 64
    """Processes and threads at one time."""
    output_bytes: int = 64 * MIB
    """What it may write as its result."""
    log_bytes: int = MIB
    """How much is kept of what it prints; the rest is read and dropped."""
    tmp_bytes: int = 256 * MIB
    """Its private ``/tmp``, which lives in memory."""
    open_files: int = 256
    """Descriptors of each process."""

    def __post_init__(self) -> None:
        """Refuse what limits nothing."""
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{field.name} must be a positive integer, not {value!r}")
