"""How each kind of fault is done to an installation, and undone."""

from collections import deque

from headrace.testing.simulation.scenario import Fault
from headrace.testing.simulation.world import GATEKEEPER, PLANNER, WORKER, Installation, Machine

JUMP_MS = 7_000


class Faults:
    """Does faults at their time, or at their place in the work; `calm` undoes what is left of them."""

    def __init__(self, world: Installation) -> None:
        self._world = world
        self._events = 0
        self._at_work: deque[Fault] = deque()
        """Those that wait for an event, the next one first."""
        self.until = 0.0
        """When the last of those that have struck so far is over."""

    def plan(self, faults: tuple[Fault, ...]) -> None:
        """Let every fault happen."""
        self._at_work.extend(sorted((one for one in faults if one.after is not None), key=lambda one: one.after or 0))
        for fault in faults:
            self._world.loop.later(fault.at, self._strike_late if fault.after is not None else self._strike, fault)

    def heard(self) -> None:
        """Note that an event has taken hold; some faults wait for that."""
        self._events += 1
        while self._at_work and (self._at_work[0].after or 0) <= self._events:
            fault = self._at_work.popleft()
            self._world.loop.later(fault.moment, self._strike, fault)

    def _strike_late(self, fault: Fault) -> None:
        """Let a fault happen whose event has not come."""
        if fault in self._at_work:
            self._at_work.remove(fault)
            self._strike(fault)

    def _strike(self, fault: Fault) -> None:
        self.until = max(self.until, self._world.loop.now + fault.seconds)
        self._do(fault)

    def calm(self) -> None:
        """Undo everything that still lasts; what was killed comes back by itself."""
        world = self._world
        world.weather.calm()
        world.weather.log_away = False
        for machine in world.machines:
            machine.process.resume()
            machine.log.cut = False
            if not machine.bus.connected:
                machine.bus.reconnect()

    def _do(self, fault: Fault) -> None:
        world = self._world
        action, _, what = fault.kind.partition(" ")
        match action, what:
            case "wipe", _:
                world.broker.wipe(world.clock.now_ms())
            case "bus", _:
                self._away(world.machines, fault.seconds)
            case "log", _:
                world.weather.log_away = True
                world.loop.later(fault.seconds, self._log_back)
            case "add", _:
                world.start(PLANNER)
            case "clock", _:
                self._pick(PLANNER, fault).clock.skew_ms += JUMP_MS
            case "cut", "planner from log":
                self._cut_log(self._pick(PLANNER, fault), fault.seconds)
            case "cut", "planner from bus" | "worker from bus":
                self._away([self._pick(what.split()[0], fault)], fault.seconds)
            case _, "planner" | "gatekeeper" | "worker":
                self._process(action, self._pick(what, fault), fault.seconds)
            case _:
                message = f"there is no fault {fault.kind!r}"
                raise ValueError(message)
        world.weather.fired[fault.kind] += 1

    def _process(self, action: str, machine: Machine, seconds: float) -> None:
        world = self._world
        match action:
            case "kill":
                machine.vanish()
                if machine.host is not None:
                    machine.log.part(machine.process.name)
                world.machines.remove(machine)
                world.loop.later(seconds, world.start, machine.kind)
            case "pause":
                machine.process.pause()
                world.loop.later(seconds, machine.process.resume)
            case "stop" if machine.process.root is not None:
                world.machines.remove(machine)
                machine.process.root.cancel()
                world.loop.later(seconds, world.start, machine.kind)
            case _:
                message = f"a process is killed, paused or stopped, not: {action}"
                raise ValueError(message)

    def _pick(self, kind: str, fault: Fault) -> Machine:
        """Give the process that a fault means; when none lives just now, one is started, to be broken."""
        wanted = {"planner": PLANNER, "gatekeeper": GATEKEEPER, "worker": WORKER}[kind]
        living = self._world.of(wanted)
        return living[fault.which % len(living)] if living else self._world.start(wanted)

    def _away(self, machines: list[Machine], seconds: float) -> None:
        for machine in machines:
            machine.bus.disconnect()
            self._world.loop.later(seconds, self._back, machine)

    def _back(self, machine: Machine) -> None:
        if machine in self._world.machines and not machine.bus.connected:
            machine.bus.reconnect()

    def _cut_log(self, machine: Machine, seconds: float) -> None:
        machine.log.cut = True
        machine.log.part(machine.process.name)
        self._world.loop.later(seconds, self._mend_log, machine)

    def _mend_log(self, machine: Machine) -> None:
        if machine in self._world.machines:
            machine.log.cut = False

    def _log_back(self) -> None:
        self._world.weather.log_away = False
