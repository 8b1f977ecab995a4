"""Whether the recorded history of registers is linearizable. Keys are independent of each other
(P-compositionality), so each is judged alone. The search is Wing and Gong's with Lowe's memory of
what was seen: it goes through calls and returns in the order of time and keeps every state that the
register may be in, with those open operations that have taken effect in it.

Every value is written at most once to a key, which makes writes of unknown outcome cheap: one that
nobody read need not have happened, and one that was read took effect before the first such read
returned."""

from dataclasses import dataclass

READ, WRITE = "read", "write"
NEVER = float("inf")


@dataclass(slots=True)
class Operation:
    kind: str
    value: object  # written, or read; None is "no value"
    start: float
    end: float = NEVER  # NEVER: whether and when it took effect is unknown
    client: object = None

    def __str__(self):
        end = "unknown" if self.end == NEVER else f"{self.end:.6f}"
        return f"client {self.client}: {self.kind} {self.value!r} [{self.start:.6f}, {end}]"


@dataclass
class Violation:
    key: object
    reason: str
    around: list  # operations at that time

    def __str__(self):
        shown = "\n".join(f"    {operation}" for operation in self.around)
        return f"key {self.key!r}: {self.reason}\n{shown}"


def check(history):
    """`history`: {key: [Operation]}. Returns the first violation of each key that has one."""
    found = (check_key(key, operations) for key, operations in history.items())
    return [violation for violation in found if violation]


def check_key(key, operations, initial=None):
    try:
        operations = settled(operations, initial)
    except _Impossible as impossible:
        return Violation(key, str(impossible), impossible.operations)
    events = sorted(
        [(operation.start, 0, number) for number, operation in enumerate(operations)]
        + [(operation.end, 1, number) for number, operation in enumerate(operations)])
    opened = set()
    states = {(initial, frozenset())}
    for _, is_return, number in events:
        if not is_return:
            opened.add(number)
            continue
        states = _after_return(states, number, opened, operations)
        opened.discard(number)
        if not states:
            around = [operations[other] for other in sorted(opened | {number})]
            before = [o for o in operations if o.end <= operations[number].start][-4:]
            return Violation(
                key, f"no order explains: {operations[number]}; open then, and the last before:",
                around + before)
    return None


class _Impossible(Exception):
    def __init__(self, text, operations):
        super().__init__(text)
        self.operations = operations


def settled(operations, initial):
    """Without what cannot matter; every operation has an end."""
    writes, first_read = {}, {}
    for operation in operations:
        if operation.kind == WRITE:
            if operation.value in writes or operation.value == initial:
                raise ValueError(f"{operation.value!r} is written twice")
            writes[operation.value] = operation
        elif operation.end != NEVER:
            earliest = first_read.get(operation.value)
            if earliest is None or operation.end < earliest.end:
                first_read[operation.value] = operation
    for value, read in first_read.items():
        if value != initial and value not in writes:
            raise _Impossible(f"a value that nobody wrote: {read}", [read])
        if value != initial and writes[value].start > read.end:
            raise _Impossible(f"read before it was written: {read}", [read, writes[value]])
    result = []
    for operation in operations:
        if operation.end != NEVER:
            result.append(operation)
        elif operation.kind == WRITE and operation.value in first_read:
            result.append(Operation(
                WRITE, operation.value, operation.start, first_read[operation.value].end,
                operation.client))
    return sorted(result, key=lambda operation: (operation.start, operation.end))


def _after_return(states, number, opened, operations):
    """The states in which `number` has taken effect; it is dropped from their open ones."""
    result, seen, left = set(), set(states), list(states)
    while left:
        value, done = left.pop()
        if number in done:
            result.add((value, done - {number}))
            continue
        for other in opened:
            if other in done:
                continue
            operation = operations[other]
            if operation.kind == READ:
                if operation.value != value:
                    continue
                state = (value, done | {other})
            else:
                state = (operation.value, done | {other})
            if state not in seen:
                seen.add(state)
                left.append(state)
    return result
