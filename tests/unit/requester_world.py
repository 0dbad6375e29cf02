"""A requester over a fake chain and the real scheduler's API."""

from __future__ import annotations

import httpx
from fastapi.testclient import TestClient
from scheduler_fakes import LAB, NOW, PARTIES, Event, Record, header, make_chain

from sealtrace.contracts.keys import KeyFile
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.identifiers import NOBODY, NOTHING, UnixSeconds
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.receipt import result_digest
from sealtrace.requester.client import Requester, Waiting
from sealtrace.requester.directory import Directory, Keys
from sealtrace.requester.scheduler_api import HttpScheduler
from sealtrace.scheduler.api import build
from sealtrace.scheduler.sealed_files import SealedFiles
from sealtrace.scheduler.settings import ChainSection, Settings
from sealtrace.scheduler.store import Store
from sealtrace.scheduler.wiring import Scheduler

BOOK = dict(zip(("one", "two", "three"), (each.address for each in PARTIES), strict=True))


class FakeSender:
    """Puts on the fake chain at once what is sent, and remembers it."""

    def __init__(self, chain):
        self.chain = chain
        self.sent = []

    def send(self, intent, call, *, timeout_s=60):
        if intent in self.sent:
            return
        self.sent.append(intent)
        if call.function == "create":
            self.chain.tasks[intent.partition(":")[2]] = Record(TaskState.CREATED)


class World:
    """A requester over a fake chain and the real scheduler's API, and a clock that sleeping moves."""

    def __init__(self, folder):
        self.chain = make_chain()
        self.now = float(NOW)
        self.scheduler = Scheduler(
            settings=Settings(chain=ChainSection(rpc_url="http://x", chain_id=1, directory=NOBODY)),
            store=Store.open(f"sqlite:///{folder}/scheduler.db"),
            files=SealedFiles(folder / "outputs", 1 << 20),
            connect=lambda: self.chain,
            now=lambda: UnixSeconds(int(self.now)),
        )
        self.http = TestClient(build(self.scheduler))
        self.alter = lambda response: response
        self.folder = folder
        self.sender = FakeSender(self.chain)
        self.requester = self.make_requester(folder / "lab")
        for each in PARTIES:
            self.http.post("/v1/nodes", content=canonical(each.hello().model_dump(mode="json")))

    def make_requester(self, folder, keys=None, transport=None):
        folder.mkdir(exist_ok=True)
        waiting = Waiting(poll_s=1, outputs_s=5, clock=lambda: self.now, sleep=self.sleep)
        http = HttpScheduler("http://scheduler", transport=transport or httpx.MockTransport(self.carry))
        keys = keys or Keys(KeyFile(LAB.address, LAB.key), LAB.hpke)
        return Requester(keys, self.chain, self.sender, http, Directory(folder), BOOK, waiting)

    def carry(self, request):
        answer = self.http.request(
            request.method,
            request.url.raw_path.decode(),
            content=request.content,
            headers=dict(request.headers),
        )
        return self.alter(httpx.Response(answer.status_code, content=answer.content, headers=answer.headers))

    def sleep(self, seconds):
        self.now += seconds
        self.chain.tick(int(seconds))

    def deliver(self, task, sealed, parties=PARTIES):
        """Every party delivers; returns the digest they would agree on."""
        for each in parties:
            self.put(task, each, sealed[each.address])
        return result_digest({party: sha256(content) for party, content in sealed.items()})

    def put(self, task, party, content):
        body = {"task": task, "digest": sha256(content)}
        self.carried(f"/v1/tasks/{task}/outputs/{party.address}", party, "task.output", body, content)

    def carried(self, path, party, kind, body, content):
        signed = party.says(kind, body, at=int(self.now))
        answer = self.http.put(path, content=content, headers=header(signed))
        assert answer.status_code == 200, answer.text

    def end(self, task, state, result=NOTHING, event=None, **args):
        self.chain.tasks[task] = Record(state, 7, 7, 7, result[:34])
        if state is TaskState.COMPLETED:
            event, args = "TaskCompleted", {"result": result}
        if event:
            self.chain.happened.append(Event(event, {"task": task, **args}))
