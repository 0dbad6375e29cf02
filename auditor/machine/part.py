"""What all parts of the machine need: to note what the rules do not allow, and to ask who is active."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from sealtrace.auditor.events import Event
from sealtrace.auditor.governance import Governance
from sealtrace.auditor.world import Generation, Irregularity, Key, Topic, World
from sealtrace.protocol.identifiers import NOTHING, Address
from sealtrace.protocol.records import Algorithm, Node, Role

Handler = Callable[[Event], None]
ANY_ROLE = Role(0)


class Part:
    """One contract's rules; one method for each of its events, refusing first, then changing."""

    def __init__(self, world: World) -> None:
        self.world = world

    def handlers(self) -> Mapping[str, Handler]:
        """The methods by the names of their events."""
        raise NotImplementedError

    def finish(self) -> None:
        """Note what was begun and never made whole."""

    @property
    def governance(self) -> Governance:
        """The consortium as it stands."""
        return self.world.governance

    def irregular(self, topic: Topic, thing: str, event: Event, expected: str, observed: str) -> None:
        """Write down what the rules do not allow."""
        self.world.irregular.append(Irregularity(topic, thing, event, expected, observed))

    def here(self, event: Event) -> Generation:
        """The generation of the contract that emitted ``event``; the replay lets no other event in."""
        found = self.world.homes.get(event.contract)
        if found is None:
            raise ValueError(f"no generation has the contract {event.contract}")
        return found

    def node(self, event: Event, who: Address) -> Node | None:
        """What the node registry that the emitting contract asks says of ``who``."""
        line = self.world.nodes.get(Key(self.here(event).nodes, who))
        return line.last if line else None

    def is_active(self, event: Event, who: Address, role: Role = ANY_ROLE) -> bool:
        """Whether ``who`` is an active node of that registry and holds ``role``."""
        found = self.node(event, who)
        return found is not None and found.may(role)

    def may_suspend(self, topic: Topic, thing: str, event: Event, known: Node | Algorithm | None) -> bool:
        """Whether the suspension ``event`` can happen to ``known``; notes who may not do it."""
        was = known.status.name if known else "NONE"
        held = known is not None and known.held
        if not (was == "ACTIVE" or (was == "SUSPENDED" and event.flag("held") and not held)):
            expected = "a suspension of what is active, or one that prevails over a registrar's"
            self.irregular(topic, thing, event, expected, "held already" if held else was)
            return False
        if not self.governance.supervises(event) or event.flag("held") != self.governance.prevails(event):
            expected = "held where the regulator or a vote suspends, not held where a registrar does"
            observed = f"{event.who('by')}, {'held' if event.flag('held') else 'not held'}"
            self.irregular(topic, thing, event, expected, observed)
        if event.hex("reason") == NOTHING:
            self.irregular(topic, thing, event, "a suspension with its reason", "none")
        return True

    def may_reinstate(self, topic: Topic, thing: str, event: Event, known: Node | Algorithm | None) -> bool:
        """Whether the reinstatement ``event`` can happen to ``known``; notes who may not do it."""
        if known is None or known.status.name != "SUSPENDED":
            was = known.status.name if known else "NONE"
            self.irregular(topic, thing, event, "a reinstatement of what is suspended", was)
            return False
        allowed = self.governance.prevails if known.held else self.governance.supervises
        if not allowed(event):
            whom = "the regulator or by vote" if known.held else "a registrar, the regulator or by vote"
            self.irregular(topic, thing, event, f"reinstated by {whom}", event.who("by"))
        return True


def ascending(values: Sequence[str]) -> bool:
    """Whether each value is greater than the one before."""
    return all(one < other for one, other in pairwise(values))
