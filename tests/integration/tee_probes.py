"""What hostile code would try. RUNS ONLY INSIDE THE SANDBOX: it looks for itself there first, and ends if it
is not.

Standard library only. Called as ``main.py PROBE [JSON]``; writes what it found to the output as JSON.
"""

import ctypes
import errno
import json
import os
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
SECOND = 1_000_000_000


def refuse_unless_inside():
    inside = (
        os.uname().nodename == "sealtrace-tee"
        and os.getpid() == 1
        and os.getuid() == 65534
        and os.listdir("/code") == ["main.py"]
        and not os.path.exists("/proc/self")
        and not os.path.exists("/etc/passwd")
        and not os.access("/", os.W_OK)
    )
    if not inside:
        sys.stderr.write("not in the sandbox: nothing is tried\n")
        os._exit(77)


def attempt(call, *arguments):
    """``None`` where it works, else the name of the error."""
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


def syscall(number, *arguments):
    ctypes.set_errno(0)
    if LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(each) for each in arguments)) == -1:
        raise OSError(ctypes.get_errno(), "")


def calls(numbers):
    """Each system call with arguments that do nothing even where it is allowed."""
    return {name: attempt(syscall, number, *arguments) for name, (number, arguments) in numbers.items()}


def sockets(_):
    import socket

    kinds = {
        "tcp": (socket.AF_INET, socket.SOCK_STREAM),
        "tcp6": (socket.AF_INET6, socket.SOCK_STREAM),
        "udp": (socket.AF_INET, socket.SOCK_DGRAM),
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM),
        "netlink": (socket.AF_NETLINK, socket.SOCK_RAW),
        "vsock": (socket.AF_VSOCK, socket.SOCK_STREAM),
        "packet": (socket.AF_PACKET, socket.SOCK_RAW),
    }
    return {name: attempt(socket.socket, *kind) for name, kind in kinds.items()}


def reads(paths):
    return {path: attempt(lambda each: open(each, "rb").close(), path) for path in paths}


def writes(paths):
    return {path: attempt(lambda each: open(each, "xb").close(), path) for path in paths}


def seen(_):
    return sorted(os.listdir("/")), sorted(os.listdir("/dev")), sorted(os.listdir("/proc"))


def environment(_):
    return dict(os.environ)


def descriptors(_):
    found = []
    for number in range(256):
        if attempt(os.fstat, number) is None:
            found.append(number)
    return found


def signals(pid):
    return {
        "one": attempt(os.kill, pid, 0),
        "killed": attempt(os.kill, pid, 9),
        "others": attempt(os.kill, -1, 9),
    }


def input_file(_):
    number = json.loads(os.environ["SEALTRACE_DESCRIPTORS"])["inputs"]["table"]
    return {
        "write": attempt(os.write, number, b"x"),
        "truncate": attempt(os.ftruncate, number, 0),
        "mode": attempt(os.fchmod, number, 0o777),
        "times": attempt(os.utime, number),
        "owner": attempt(os.fchown, number, 65534, 65534),
        "attribute": attempt(os.setxattr, number, "user.x", b"x"),
        "again": attempt(os.open, f"/proc/self/fd/{number}", os.O_RDWR),
        "above": attempt(lambda: os.open("..", os.O_RDONLY, dir_fd=number)),
        "link": attempt(lambda: os.link("", "/tmp/x", src_dir_fd=number)),
    }


MOST = 64
"""Processes made, and blocks of 8 MiB taken, where no limit stops it: then it stops by itself."""


def forks(_):
    """Children that wait, until no more can be had."""
    made = 0
    while made < MOST:
        try:
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
        except OSError as error:
            return {"made": made, "error": errno.errorcode[error.errno]}
        made += 1
    return {"made": made, "error": None}


def fork_bomb(_):
    """Every process makes more, but only once it is seen that there is a limit. Ends with the sandbox."""
    found = forks(None)
    if found["error"] is None:
        return found
    attempt(os.kill, -1, 9)
    while attempt(os.wait) is None:
        pass
    give_up = time.monotonic() + 2
    while time.monotonic() < give_up:
        attempt(os.fork)
    if os.getpid() != 1:
        os._exit(0)
    return found


def failing_forks(_):
    tell(forks(None))
    os._exit(1)


def memory(_):
    kept = []
    for _ in range(MOST):
        kept.append(bytearray(8 << 20))


def memory_of_many(octets):
    """Each within its own limit, together beyond."""
    for _ in range(4):
        if os.fork() == 0:
            held = bytearray(octets)
            time.sleep(2)
            os._exit(held[0])
    codes = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(4)]
    sys.exit(1 if any(codes) else 0)


def spins(_):
    while True:
        pass


def sleeps(_):
    time.sleep(60)


def closes_and_sleeps(_):
    for number in range(256):
        attempt(os.close, number)
    time.sleep(60)


def floods(_):
    with open(json.loads(os.environ["SEALTRACE_DESCRIPTORS"])["output"], "wb") as output:
        while True:
            output.write(bytes(1 << 16))


def chatters(octets):
    for _ in range(octets // 1024):
        os.write(1, b"x" * 1024)
    return "done"


def fills(place):
    """How much can be written before it is full."""
    written = 0
    with open(f"{place}/fill", "wb", buffering=0) as file:
        try:
            while written < 1 << 30:
                written += file.write(bytes(1 << 16))
        except OSError as error:
            return {"written": written, "error": errno.errorcode[error.errno]}
    return {"written": written, "error": None}


def tell(found):
    with open(json.loads(os.environ["SEALTRACE_DESCRIPTORS"])["output"], "wb") as output:
        output.write(json.dumps(found).encode())


if __name__ == "__main__":
    refuse_unless_inside()
    tell(globals()[sys.argv[1]](json.loads(sys.argv[2])))
