"""The Celery worker. JSON only, acknowledged late, one task taken at a time by each thread.

A message is a hint and carries nothing but a task's id: the store and the chain say what is to be done, and
the watcher queues again whatever is open and held by nobody. Losing Redis loses nothing.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from sealtrace.node.errors import QueueUnavailable, Unavailable
from sealtrace.node.gate import run_task
from sealtrace.node.settings import Settings
from sealtrace.node.wiring import Node, wiring
from sealtrace.protocol.identifiers import Hex32, hex32

JOB = "sealtrace.node.run_task"
PING_TIMEOUT_S = 3
RETRY_S = (1, 2, 5, 10, 30)


def queue_app(settings: Settings) -> Celery:
    """A Celery app that can send jobs to the queue of this node."""
    app = Celery("sealtrace.node", broker=settings.redis_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=settings.queue,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            # Longer than any run, so that Redis does not deliver again what still runs. If it does, the lease
            # turns the second delivery away.
            "visibility_timeout": settings.engine.longest_run_s + 600,
            "socket_connect_timeout": PING_TIMEOUT_S,
            "socket_timeout": 30,
            "retry_on_timeout": True,
        },
    )
    return app


def enqueue(app: Celery, task: Hex32) -> None:
    """Queue ``task``.

    Raises:
        QueueUnavailable: Redis does not take it.
    """
    try:
        app.send_task(JOB, args=[task], retry=False)
    except (OperationalError, redis.RedisError, OSError) as cause:
        raise QueueUnavailable(f"Redis does not take task {task}: {cause}") from cause


def ping(settings: Settings) -> None:
    """See whether Redis answers.

    Raises:
        QueueUnavailable: it does not.
    """
    try:
        with redis.Redis.from_url(
            settings.redis_url, socket_connect_timeout=PING_TIMEOUT_S, socket_timeout=PING_TIMEOUT_S
        ) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as cause:
        raise QueueUnavailable(f"Redis at {_shown(settings.redis_url)}: {cause}") from cause


def worker_app(node: Node) -> Celery:
    """The app with this node's one job."""
    app = queue_app(node.settings)

    @app.task(name=JOB, bind=True, max_retries=len(RETRY_S))  # type: ignore[untyped-decorator]
    def job(self: Any, task_id: str) -> None:
        try:
            run_task(hex32(task_id), wiring(node))
        except Unavailable as cause:  # a denial is an answer, and a faulty party is evidence: no retry
            raise self.retry(
                exc=cause, countdown=RETRY_S[min(self.request.retries, len(RETRY_S) - 1)]
            ) from cause

    return app


def run_worker(directory: Path) -> None:
    """Serve the queue until told to end.

    Raises:
        QueueUnavailable: Redis does not answer at the start; later the worker waits for it.
        WrongNetwork, EvidenceTampered, WrongKey: nothing can be run here until that is repaired.
    """
    node = Node.open(directory)
    ping(node.settings)
    with suppress(Unavailable):  # connect now rather than at the first task; what is wrong for good ends us
        wiring(node)
    concurrency = str(node.settings.engine.concurrency)
    options = ["--pool=threads", f"--concurrency={concurrency}", "--loglevel=INFO"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker_app(node).worker_main(["worker", *options, *quiet, f"--hostname=node@{node.settings.name}"])


def _shown(url: str) -> str:
    """The URL without a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
