"""Judge a storm over a fleet. Pure functions over what hosts, clients and Redis said."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Final

from bench.bursts.verdict import jain
from bench.fleet.calls import Seen
from bench.fleet.clients import Deferred
from bench.fleet.plan import METERED, SHARES, WINDOW, Plan
from bench.fleet.strikes import CALM, Window, name_of
from bench.fleet.timeline import Span, between, inside, joined, most_within, spans, steps
from bench.fleet.watch import Look, late_permits

USE: Final = 0.95
FAIR: Final = 0.95
LATE: Final = 3.0
"""Seconds in which the living proxies, each of which calls every 1.2 s, take the permits of a dead one out of Redis."""
LIMITED: Final = "429 rate_limit"
ERRORS: Final = ('{"error":', 'data: {"error":', "event: error\n", '\ndata: {"error":', "\nevent: error\n")
"""How the record begins by which a proxy says that an answer broke off. A client may have left in the middle of it."""
SLACK: Final = 1.0
"""Seconds by which the admission of one request may be later after its sending than that of another."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One line of the table.

    Attributes:
        holds: None for what is told and not judged.
        timing: whether it depends on the speed of the machine.
        more: examples of what does not hold.
    """

    name: str
    found: str
    bound: str = ""
    holds: bool | None = None
    timing: bool = False
    more: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Excess:
    """A time in which a host ran more than its slots."""

    host: int
    began: float
    ended: float
    most: int
    strikes: str
    who: Sequence[str]


@dataclass(slots=True)
class Told:
    """All that was told of one storm; times are in seconds of the monotonic clock.

    Attributes:
        hosts: the notes of each host, see `bench.fleet.host`.
        began, ended: when the clients asked.
        rest: the last look at Redis, after all was over.
    """

    plan: Plan
    hosts: Sequence[Mapping[str, Any]]
    seen: Sequence[Seen]
    deferred: Sequence[Deferred]
    windows: Sequence[Window]
    looks: list[Look]
    rest: Look
    began: float
    ended: float
    proxies: int
    answers: dict[str, list[Mapping[str, Any]]] = field(init=False)

    def __post_init__(self) -> None:
        self.answers = defaultdict(list)
        for host in self.hosts:
            for answer in host["answers"]:
                self.answers[answer["who"]].append(answer)


def judge(told: Told) -> list[Judgement]:
    """Return all judgements."""
    use, fair = use_and_fairness(told)
    return [
        slots(told),
        *use,
        fair,
        *kept(told),
        bytes_exact(told),
        resumed(told),
        permits(told),
        at_rest(told),
        rate_limit(told),
        *errors(told),
        *latency(told),
    ]


def slots(told: Told) -> Judgement:
    """Return whether no host ever ran more than its slots."""
    found = excesses(told)
    most = max((level for host in told.hosts for _, level in host["levels"]), default=0)
    longest = max((one.ended - one.began for one in found), default=0.0)
    said = f"{most} at most" + (f"; {len(found)} times above, up to {longest:.2f} s" if found else "")
    examples = [
        f"host {one.host} ran {one.most} at {one.began - told.began:.2f} s for {one.ended - one.began:.3f} s "
        f"({one.strikes}): {', '.join(one.who)}"
        for one in found
    ]
    return Judgement("requests that a host ran at once", said, f"<= {told.plan.slots}", not found, more=examples)


def excesses(told: Told) -> list[Excess]:
    """Return the times in which a host ran more than its slots, in order."""
    found: list[Excess] = []
    proxy_of = {one.who: f"proxy {one.proxy}" for one in told.seen}
    for number, host in enumerate(told.hosts):
        levels, began, most = host["levels"], None, 0
        for at, level in levels:
            if level > told.plan.slots:
                began, most = (at if began is None else began), max(most, level)
            elif began is not None:
                running = next((names for when, names in host["excess"] if when >= began), ())
                who = [f"{name} ({proxy_of.get(name, '?')})" for name in running]
                found.append(Excess(number, began, at, most, name_of(began, told.windows), who))
                began, most = None, 0
    return sorted(found, key=lambda one: one.began)


def use_and_fairness(told: Told) -> tuple[list[Judgement], Judgement]:
    """Return how much of the slots was used while somebody waited, and how evenly tenants were served."""
    changes = [change for n, host in enumerate(told.hosts) for change in steps(host["levels"], f"host {n}")]
    live = {one.who: one for one in told.seen if one.way != "deferred" and one.end not in ("refused", "accepted")}
    for one in live.values():
        changes += between(one.sent, one.ended, "live") + between(one.sent, one.ended, f"asks {one.tenant}")
    served: list[tuple[str, float]] = []
    for who in live.keys() & told.answers.keys():
        for answer in told.answers[who]:
            changes += between(answer["began"], answer["ended"], f"runs {live[who].tenant}")
            served.append((live[who].tenant, answer["began"]))
    for window in told.windows:
        changes += between(window.began, window.ended, "strikes")
    plan = told.plan
    tenants = [tenant for tenant in SHARES if tenant != METERED]
    enough = plan.capacity + max(3, plan.capacity // 4)
    used, had = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    waiting: list[Span] = []
    for began, ended, now in spans(changes, told.began, told.began + plan.seconds):
        if now["live"] >= enough:
            calm = not now["strikes"]
            had[calm] += (ended - began) * plan.capacity
            used[calm] += (ended - began) * sum(min(now[f"host {n}"], plan.slots) for n in range(len(told.hosts)))
            if all(now[f"asks {tenant}"] > now[f"runs {tenant}"] for tenant in tenants):
                waiting.append((began, ended))
    waiting = joined(waiting)
    counts = Counter(tenant for tenant, at in served if inside(at, waiting))
    index = jain([counts[tenant] for tenant in tenants])
    calm_use = used[True] / max(had[True], 1e-9)
    overall = sum(used.values()) / max(sum(had.values()), 1e-9)
    times = f"of {had[True] / plan.capacity:.0f} s"
    use = [
        Judgement("slots in use while somebody waited, calm", f"{calm_use:.1%} {times}", f">= {USE:.0%}",
                  calm_use >= USE, timing=True),
        Judgement("slots in use while somebody waited, in all", f"{overall:.1%}"),
    ]  # fmt: skip
    shares = ", ".join(str(counts[tenant]) for tenant in tenants)
    length = sum(ended - began for began, ended in waiting)
    text = f"{index:.3f} in {length:.0f} s ({shares})"
    return use, Judgement("Jain index over tenants that all wait", text, f">= {FAIR}", index >= FAIR, timing=True)


def kept(told: Told) -> list[Judgement]:
    """Return whether each accepted request is over, with its exact record or a reason."""
    states = Counter(one.state for one in told.deferred)
    accepted = {one.who: one.head for one in told.seen if one.end == "accepted"}

    def text(one: Deferred, what: str) -> str:
        at = accepted.get(one.who, told.began)
        runs = [f"{a['began'] - told.began:.1f}-{a['ended'] - told.began:.1f}" for a in told.answers[one.who]]
        near = name_of(at, told.windows)
        return f"{one.who}, accepted at {at - told.began:.2f} s ({near}), ran {', '.join(runs) or 'never'}: {what}"

    bad = [text(one, f"{one.state} {one.error}") for one in told.deferred if not is_over(one)]
    failed = [text(one, f"failed {one.error}") for one in told.deferred if one.state == "failed"]
    unread = [
        text(one, f"its answer is {one.seen.end}, {len(one.seen.got)} bytes, {one.seen.code}")
        for one in told.deferred
        if one.state == "completed" and one.seen.end != "whole"
    ]
    again = [text(one, "ran again") for one in told.deferred if len(told.answers[one.who]) > 1]
    said = ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "none was accepted"
    return [
        Judgement("deferred requests (202)", f"{len(told.deferred)}: {said}", "each over", not bad, more=bad + failed),
        Judgement("complete ones without a whole answer", str(len(unread)), "0", not unread, more=unread),
        Judgement("deferred requests that ran again", str(len(again)), more=again),
    ]


def is_over(one: Deferred) -> bool:
    """Return whether a deferred request ended as it may: with an answer, or with the reason why it has none."""
    return one.state == "completed" or (one.state == "failed" and one.error not in ("", "null"))


def bytes_exact(told: Told) -> Judgement:
    """Return whether all that was read is what a host sent: nothing twice, out of order, or made up."""
    reads = [*told.seen, *(one.seen for one in told.deferred), *(one.followed for one in told.deferred if one.followed)]
    wrong = [f"{one.way} {one.who} at {one.sent - told.began:.1f} s: {why}" for one in reads
             if (why := fault_of(one, told.answers.get(one.who, ())))]  # fmt: skip
    whole = sum(one.end == "whole" for one in reads)
    return Judgement(
        "answers with other bytes than the host's", f"{len(wrong)} of {whole} whole", "0", not wrong, more=wrong
    )


def fault_of(one: Seen, answers: Iterable[Mapping[str, Any]]) -> str:
    """Return in which way the bytes of a reading are not those of one of the host's answers; "" where they are."""
    if one.end == "false":
        return f"looks whole and is not: {one.code} {one.got[-80:]!r}"
    if not one.got or one.end in ("refused", "accepted"):
        return ""
    if one.end == "whole":
        same = any(answer["whole"] and answer["said"] == one.got for answer in answers)
        return "" if same else f"whole, and of other bytes: {len(one.got)}, the host sent {_lengths(answers)}"
    for answer in answers:
        common = _common(answer["said"], one.got)
        tail = one.got[one.got.rfind("\n", 0, common) + 1 :]  # from the record on in which they differ
        if common == len(one.got) or any(tail[: len(error)] == error[: len(tail)] for error in ERRORS):
            return ""
    return f"broken, and no beginning of what the host sent: {len(one.got)} of {_lengths(answers)}: {one.got[-80:]!r}"


def _lengths(answers: Iterable[Mapping[str, Any]]) -> list[int]:
    return [len(answer["said"]) for answer in answers]


def _common(one: str, other: str) -> int:
    """Return how long the two texts are the same."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(at for at in range(length) if one[at] != other[at])


def resumed(told: Told) -> Judgement:
    """Return whether each answer whose connection the client broke came to its end, where no strike was near."""
    broken = [one for one in told.seen if one.breaks]
    whole = sum(one.end == "whole" for one in broken)
    bad = [f"{one.who} at {one.sent - told.began:.1f} s: {one.end} {one.code}"
           for one in broken if one.end != "whole" and not struck(one, told.windows)]  # fmt: skip
    breaks, resumes = sum(one.breaks for one in broken), sum(one.resumes for one in broken)
    said = f"{len(broken)} broken {breaks} times and read on {resumes} times, {whole} whole in the end"
    return Judgement("resumed answers not whole, calm", f"{len(bad)}; {said}", "0", not bad, more=bad)


def struck(one: Seen, windows: Sequence[Window]) -> bool:
    """Return whether a strike may have had its effect while the request was under way."""
    return any(window.began <= one.ended and one.sent <= window.ended for window in windows)


def permits(told: Told) -> Judgement:
    """Return whether no permit in Redis outlived its expiry."""
    found = late_permits(told.looks, 0.0)
    most = max((late for _, late, _, _ in found), default=0.0)
    more = [f"{held} of proxy {proxy} at {at - told.began:.1f} s, {late:.1f} s after ({name_of(at, told.windows)})"
            for at, late, proxy, held in found if late > LATE]  # fmt: skip
    said = f"{most:.1f} s after it, in {len(told.looks)} looks"
    return Judgement(
        "the permit that was longest in Redis after its expiry", said, f"<= {LATE:g} s", not more, more=more
    )


def at_rest(told: Told) -> Judgement:
    """Return whether nobody holds a permit, and no host runs anything, when all is over."""
    permits_left, running = sum(told.rest.held.values()), sum(host["levels"][-1][1] for host in told.hosts)
    alive = sum(left > 0 for left in told.rest.alive.values())
    said = f"{permits_left} permits, {running} requests, {alive} proxies alive"
    holds = not permits_left and not running and alive == told.proxies
    return Judgement("left when all is over", said, f"0, 0, {told.proxies}", holds)


def rate_limit(told: Told) -> Judgement:
    """Return whether the metered tenant never had more requests let through than its limit."""
    metered = [one for one in told.seen if one.tenant == METERED]
    let_through = [one.sent for one in metered if one.end in ("whole", "broken") or one.who in told.answers]
    most, when = most_within(let_through, WINDOW - SLACK)
    strikes = {window.kind for window in told.windows if window.began <= when + WINDOW and when <= window.ended}
    said = f"{most} at most, from {max(0.0, when - told.began):.0f} s on ({' + '.join(sorted(strikes)) or CALM})"
    limit = told.plan.limit
    return Judgement(f"requests of the metered tenant in {WINDOW:g} s", said, f"<= {limit}", most <= limit)


def errors(told: Told) -> list[Judgement]:
    """Return the errors by code; what comes of a limit is none, and where no strike is near there has to be none."""
    by_code: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    examples = []
    for one in told.seen:
        if one.end not in ("refused", "lost") and (one.end != "broken" or one.place):
            continue
        is_calm = not struck(one, told.windows)
        by_code[is_calm][code := one.code if one.end == "refused" else f"{one.end}: {one.code}"] += 1
        if is_calm and not code.startswith(LIMITED):
            examples.append(f"{one.who} at {one.sent - told.began:.1f}-{one.ended - told.began:.1f} s: {code}")
    calm = {code: n for code, n in by_code[True].items() if not code.startswith(LIMITED)}
    limited = sum(n for codes in by_code.values() for code, n in codes.items() if code.startswith(LIMITED))
    during = {code: n for code, n in by_code[False].items() if not code.startswith(LIMITED)}
    return [
        Judgement("requests that failed, calm", _numbers(calm), "0", not calm, timing=True, more=examples),
        Judgement("requests that failed near a strike", f"{_numbers(during)} of {len(told.seen)}"),
        Judgement("requests over the limit of their tenant", str(limited)),
    ]


def _numbers(found: Mapping[str, int]) -> str:
    return ", ".join(f"{n} x {code}" for code, n in sorted(found.items(), key=lambda item: -item[1])) or "0"


def latency(told: Told) -> list[Judgement]:
    """Return how long whole live answers took, with the wait for their slot."""
    lines = []
    for name, near in (("calm", False), ("near a strike", True)):
        took = [one.ended - one.sent for one in told.seen
                if one.end == "whole" and not one.breaks and struck(one, told.windows) == near]  # fmt: skip
        if len(took) > 1:
            cuts = quantiles(took, n=100)
            said = f"p50 {cuts[49]:.1f} s, p95 {cuts[94]:.1f} s, p99 {cuts[98]:.1f} s, most {max(took):.1f} s"
            lines.append(Judgement(f"time of a live request, {name}", f"{said} of {len(took)}"))
    return lines
