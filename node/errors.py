"""What can go wrong at a node, grouped by whose problem it is.

``Unavailable`` and its kinds are the world's: they are retried. ``Misuse`` and its kinds are the
operator's or caller's: the message says what to change. ``Compromised`` and its kinds stop the node: what it
holds is not what it vouched for. A denial or a failed run is no error but an answer, and is recorded.
"""

from __future__ import annotations


class NodeError(Exception):
    """Any of our own errors. ``next_step`` says what to do about it."""

    next_step = "See the node's log."
    status = 500
    """The HTTP status it is answered with (RFC 9110 §15)."""


# --- the world's: try again later


class Unavailable(NodeError):
    """Something outside the node does not answer now; nothing was half done."""

    next_step = "Wait and try again; the node itself retries."
    status = 503


class ChainUnavailable(Unavailable):
    """The chain's endpoint does not answer, or not in time."""

    next_step = "See that the chain's endpoint in node.toml runs and is reachable."


class NotAdmitted(Unavailable):
    """The registrar has not admitted this node yet; what it would tell the chain is told once it has."""

    next_step = "Send the card (sealtrace node card) to the registrar; the node goes on by itself."


class SchedulerUnavailable(Unavailable):
    """The scheduler does not answer, or not in time."""

    next_step = "See that the scheduler's URL in node.toml is right and that it runs."


class GatewayDown(Unavailable):
    """This node's own gateway does not answer."""

    next_step = "Start it: sealtrace node gateway."


class QueueUnavailable(Unavailable):
    """Redis does not answer."""

    next_step = "Start Redis, or correct redis_url in node.toml; open tasks are queued again by themselves."


class DiskFull(Unavailable):
    """No space left where the node writes; the step that needed the record was not taken."""

    next_step = "Free space in the node's directory; the step is taken up again."
    status = 507


class StoreBusy(Unavailable):
    """The database did not answer in time."""

    next_step = "Wait; if it stays, see who holds the database."


# --- the operator's or the caller's: change what is asked


class Misuse(NodeError):
    """The request or the configuration is wrong."""

    status = 400


class BadSettings(Misuse):
    """node.toml is missing, malformed, or has a key that nobody knows."""

    next_step = "Correct the named key in node.toml."


class DirectoryInUse(Misuse):
    """The directory holds a node already."""

    next_step = "Choose an empty directory, or work with the node that is there."
    status = 409


class WrongKey(Misuse):
    """The key file is not that of the configured address, or does not open."""

    next_step = "Put back the node's own key.json."


class PortTaken(Misuse):
    """Another process listens at the configured address."""

    next_step = "Stop it, or choose another port in node.toml."
    status = 409


class DatasetUnreadable(Misuse):
    """The dataset's file is missing, or not a table."""

    next_step = "Give the path of a readable CSV or Parquet file."
    status = 422


class PathNotAllowed(Misuse):
    """The API was given a path outside the directories it may read."""

    next_step = "Move the file under one of data_dirs in node.toml, or add its directory there."
    status = 403


class DatasetNotFound(Misuse):
    """This node holds no such dataset."""

    next_step = "List them: sealtrace node dataset list."
    status = 404


class GrantNotFound(Misuse):
    """This node issued no such grant."""

    next_step = "List them: sealtrace node grant list."
    status = 404


class TaskNotFound(Misuse):
    """This node knows no such task; it hears of a task only when the chain names it as a party."""

    next_step = "List them: sealtrace node task list."
    status = 404


class TaskOver(Misuse):
    """The task has ended; nothing can be done to it."""

    next_step = "Look at it: sealtrace node task show."
    status = 409


class BundleInvalid(Misuse):
    """These files are no algorithm bundle, or not the one of the given digest."""

    next_step = "Fetch the bundle again from its provider and compare digests."
    status = 422


class StatementNotFound(Misuse):
    """This node keeps no enclave's statement of this digest."""

    next_step = "Ask for one that GET /v1/statements lists."
    status = 404


class RecordNotFound(Misuse):
    """The evidence log has no record of this index."""

    next_step = "Ask for an index below the log's size."
    status = 404


class NotAuthenticated(Misuse):
    """No bearer token was given, or it is unknown or withdrawn."""

    next_step = "Send Authorization: Bearer TOKEN; make one with sealtrace node token add."
    status = 401


class NotAllowed(Misuse):
    """The token's role may read but not act."""

    next_step = "Use a token of the role operator."
    status = 403


class InvalidRequest(Misuse):
    """The request's body, path or query is malformed; the message names the place."""

    next_step = "Compare with /openapi.json."
    status = 422


class ChainRefused(Misuse):
    """The chain does not take this act; ``name`` is the contract's error."""

    next_step = "The chain was not changed; the message names the contract's error and its values."
    status = 409

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(detail)
        self.name = name


# --- what must stop the node


class Compromised(NodeError):
    """What the node holds is not what it vouched for."""


class EvidenceTampered(Compromised):
    """The evidence log is shorter than, or inconsistent with, what was anchored on the chain."""

    next_step = "Restore evidence/ from a backup; nothing is appended to a log that was rewritten."


class ChainRewritten(Compromised):
    """The chain shows another block than the one this node has followed."""

    next_step = "Ask the consortium which history stands before restarting the watcher."


class WrongNetwork(Compromised):
    """The endpoint serves another chain, or other contracts, than node.toml names."""

    next_step = "Correct chain_id, directory or rpc_url in node.toml."
