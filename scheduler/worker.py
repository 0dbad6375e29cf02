"""The scheduler's Celery worker: it chases open tasks and deletes what was kept long enough.

Its jobs are shells that take no arguments: what there is to do is in the database and on the chain, so
nothing is lost with Redis, and a job delivered twice finds nothing left to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog
from celery import Celery
from celery.beat import EmbeddedService
from celery.signals import worker_ready, worker_shutting_down

from sealtrace.contracts.errors import ChainError
from sealtrace.scheduler import chase as chasing
from sealtrace.scheduler.wiring import Scheduler, wiring

PURGE_EVERY_S = 60.0
QUEUE = "sealtrace-scheduler"
log = structlog.get_logger("sealtrace.scheduler")


def build(scheduler: Scheduler) -> Celery:
    """The Celery application over ``scheduler``: its own Redis database, JSON only, late acknowledgement."""
    every = scheduler.settings.times.chase_every_s
    app = Celery("sealtrace.scheduler", broker=scheduler.settings.redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_default_queue=QUEUE,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"visibility_timeout": 300, "socket_timeout": 10, "socket_keepalive": True},
        beat_schedule={
            "chase": {"task": "chase", "schedule": every, "options": {"expires": every}},
            "purge": {"task": "purge", "schedule": PURGE_EVERY_S, "options": {"expires": PURGE_EVERY_S}},
        },
    )

    def chase_job() -> None:
        chase(scheduler)

    def purge_job() -> None:
        purge(scheduler)

    app.task(name="chase", acks_late=True)(chase_job)
    app.task(name="purge", acks_late=True)(purge_job)
    return app


def chase(scheduler: Scheduler) -> None:
    """Look at every open task once. An unreachable chain is looked at again by the next beat."""
    try:
        changed = chasing.chase(scheduler.store, scheduler.chain, scheduler.settings.times, scheduler.now())
    except ChainError as error:
        log.warning("chain unavailable", error=type(error).__name__, detail=str(error))
        return
    for task in changed:
        state = task.observed.state.name.lower() if task.observed else "none"
        log.info("task", task=task.id, state=state, late=list(task.late))


def purge(scheduler: Scheduler) -> None:
    """Delete the outputs of tasks that are done with."""
    for task in chasing.purge(scheduler.store, scheduler.files, scheduler.settings.times, scheduler.now()):
        log.info("outputs deleted", task=task.id)


def run(directory: Path) -> None:
    """Work, with the beat in a thread of this process, until SIGTERM or SIGINT."""
    app = build(wiring(directory))
    # In a thread and in memory: it ends with this process however that ends, and keeps no file.
    beat = EmbeddedService(app, thread=True, scheduler_cls="celery.beat:Scheduler")

    def start_beat(**_: Any) -> None:
        beat.start()

    def stop_beat(**_: Any) -> None:
        beat.stop()

    worker_ready.connect(start_beat, weak=False)
    worker_shutting_down.connect(stop_beat, weak=False)
    app.worker_main(
        [
            "worker",
            "--pool=threads",
            "--concurrency=2",
            "--loglevel=WARNING",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "-n",
            "scheduler@%h",
        ]
    )
