"""Which system calls a sandboxed process may make; every other one fails with EPERM.

The list lets numpy, scikit-learn and XGBoost train. It has no sockets, and none of ptrace, process_vm, mount,
namespaces, bpf, perf, keyctl, io_uring, memfd, userfaultfd, modules, clocks or privileges; nor what changes
the mode or times of a file by its descriptor, for input files of the host are passed by descriptor.
"""

from __future__ import annotations

import errno
import tempfile
from functools import cache

from sealtrace.node.engines.errors import SandboxUnavailable
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import Hex32

LIBRARIES = "On Debian: apt install libseccomp2; then pip install 'sealtrace[tee]'."

FILES = """access chdir close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fallocate
    fchmodat fcntl fdatasync flock fstat fstatfs fsync ftruncate getcwd getdents getdents64 lseek lstat mkdir
    mkdirat newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
    readahead readlink readlinkat readv rename renameat renameat2 rmdir sendfile splice stat statfs statx
    symlink symlinkat sync_file_range tee truncate umask unlink unlinkat utimes write writev chmod poll ppoll
    select pselect6 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd
    eventfd2"""
MEMORY = """brk get_mempolicy madvise mbind membarrier mincore mlock mlock2 mlockall mmap mprotect mremap
msync munlock munlockall munmap set_mempolicy"""
TIME = (
    "clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep time times alarm setitimer getitimer"
)
PROCESS = """arch_prctl execve exit exit_group fork futex futex_waitv get_robust_list getcpu getegid geteuid
getgid
    getgroups getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage
    getsid gettid getuid kill pause prlimit64 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_setaffinity sched_yield
    set_robust_list set_tid_address setpgid setpriority setrlimit sigaltstack sysinfo tgkill uname vfork wait4
    waitid"""
ALLOWED = tuple(sorted(f"{FILES} {MEMORY} {TIME} {PROCESS}".split()))

NEW_NAMESPACES = 0x7E020080
"""Every CLONE_NEW flag of clone(2): time, mount, cgroup, uts, ipc, user, pid, net."""
TERMINAL_READS = (0x5401, 0x541B, 0x5451, 0x5450, 0x5421, 0x5413)
"""ioctl(2): TCGETS, FIONREAD, FIOCLEX, FIONCLEX, FIONBIO, TIOCGWINSZ. Not TIOCSTI, which types for others."""
PROCESS_OPTIONS = (3, 4, 15, 16, 0x53564D41)
"""prctl(2): get and set dumpable, set and get name, name a mapping. Not PDEATHSIG: it must die with us."""


@cache
def program() -> bytes:
    """The filter as BPF instructions for this machine (seccomp(2)).

    Raises:
        SandboxUnavailable: libseccomp or its binding is not installed.
    """
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise SandboxUnavailable(f"no seccomp filter can be made ({error}). {LIBRARIES}") from error
    made = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in ALLOWED:
        if _known(name):
            made.add_rule(pyseccomp.ALLOW, name)
    made.add_rule(pyseccomp.ALLOW, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, NEW_NAMESPACES, 0))
    made.add_rule(
        pyseccomp.ERRNO(errno.ENOSYS), "clone3"
    )  # its flags lie in memory: glibc falls back to clone
    for request in TERMINAL_READS:
        made.add_rule(pyseccomp.ALLOW, "ioctl", pyseccomp.Arg(1, pyseccomp.EQ, request))
    for option in PROCESS_OPTIONS:
        made.add_rule(pyseccomp.ALLOW, "prctl", pyseccomp.Arg(0, pyseccomp.EQ, option))
    made.add_rule(pyseccomp.ALLOW, "utimensat", pyseccomp.Arg(1, pyseccomp.NE, 0))  # a path, not a descriptor
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()


def digest() -> Hex32:
    """SHA-256 of the filter, for evidence."""
    return sha256(program())


def _known(name: str) -> bool:
    """Whether this machine has the call at all: aarch64, for one, has no open(2)."""
    import pyseccomp

    try:
        number: int = pyseccomp.resolve_syscall(pyseccomp.system_arch(), name)
    except (ValueError, OSError):
        return False
    return number >= 0
