"""Taking something away for the length of a block, and paying back whatever was left away.

Paying back is one function, whoever calls it: the end of the block, the next command that works on the
cluster, `labctl heal`. A marker is written before anything is taken and removed when everything is back and works.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from labctl.cluster import running
from labctl.cluster.absence import known, store
from labctl.cluster.absence import marker as markers
from labctl.cluster.absence.kinds import Absence
from labctl.cluster.absence.marker import Marker, Process
from labctl.cluster.absence.site import Look, Site, patiently
from labctl.cluster.mark import KIND_CLUSTER
from labctl.cluster.running import RunningCluster
from labctl.errors import CleanupIncomplete, CommandFailed, LabctlError, NodeDown, StateUnusable
from labctl.kube import connect
from labctl.progress import Progress
from labctl.tools.docker import Docker
from labctl.waiting import undisturbed, until

GONE_SECONDS = 120.0
"""For what was ordered away to be gone: a pod may take its 30 s of grace, a busy machine the rest."""
BACK_SECONDS = 240.0
"""For what was ordered back to work: a leader election alone takes 20 s, a control plane that lost its API
server restarts its parts with growing pauses."""
API_SECONDS = 180.0
EVERY_SECONDS = 0.3

Note = Callable[[str], None]


@contextlib.contextmanager
def taken_away(
    site: Site, absence: Absence, *, by: str = "", note: Note = lambda _: None
) -> Iterator[Marker]:
    """A block in which ``absence`` is really gone; at every exit it is put back and works again.

    Raises what taking it away raises, `DeadlineExceeded` when it does not go; at the exit `CleanupIncomplete`
    when it does not come back, and an interrupt that names the marker when one comes while it is put back.
    """
    marker = mark(site, absence, by)
    try:
        store.write(marker, site.cluster, site.docker)
        take(site, absence, marker, note)
        yield marker
    except BaseException as cause:
        # Also what is no Exception: an interrupt, the end of the process, a generator that is closed.
        _put_back(site, marker, note, cause)
        raise
    else:
        _put_back(site, marker, note, None)


def mark(site: Site, absence: Absence, by: str = "") -> Marker:
    """The marker for taking ``absence``, as it is now. Raises `InfrastructureError` where it is away already."""
    return Marker(
        id=markers.new_id(),
        cluster=site.cluster.name,
        plane=store.identity(site.cluster, site.docker),
        kind=absence.kind,
        thing=absence.thing,
        nodes=absence.nodes,
        namespace=absence.namespace,
        before=absence.before(site),
        process=Process.own(),
        by=by,
        since=markers.now(),
        title=absence.title,
    )


def take(site: Site, absence: Absence, marker: Marker, note: Note = lambda _: None) -> None:
    """Order ``absence`` away and wait until it is gone; its marker was written before. Raises `DeadlineExceeded`."""
    absence.take(site, marker.before)
    until(
        lambda: patiently(lambda: absence.gone(site, marker.before)),
        what=f"{absence.title} is gone",
        within=GONE_SECONDS,
        every=EVERY_SECONDS,
        on_wait=note,
    )


def pay_back(site: Site, owed: Sequence[Marker], note: Note = lambda _: None) -> None:
    """Put back what these markers stand for, wait until all of it works, and remove each marker then.

    Idempotent, and no matter how much of it is back already. Raises `CleanupIncomplete` that names the
    markers which stay; the others are paid.
    """
    failed: dict[str, tuple[Marker, LabctlError]] = {}
    looks: list[tuple[Marker, Look]] = []
    # What the API server itself may need comes first, and all of it is ordered before anything is awaited:
    # a kubelet is not Ready without an API server, an API server does not start without its kubelet.
    absences = sorted(((known.of(one), one) for one in owed), key=lambda pair: pair[0].by_api)
    asked = False
    for absence, marker in absences:
        try:
            if absence.by_api and not asked:
                until(site.api_ready, what="the API server answers", within=API_SECONDS, on_wait=note)
                asked = True
            looks.append((marker, absence.give(site, marker.before)))
        except LabctlError as wrong:
            failed[marker.id] = (marker, wrong)
    for marker, look in looks:
        try:
            until(
                look,
                what=f"{marker.title} works again",
                within=BACK_SECONDS,
                every=EVERY_SECONDS,
                on_wait=note,
            )
            store.remove(marker, site.cluster, site.docker)
        except LabctlError as wrong:
            failed[marker.id] = (marker, wrong)
    if failed:
        raise _still_away(site, failed.values())


def order_back(site: Site, owed: Iterable[Marker]) -> None:
    """Order back what these markers stand for and wait for nothing: the user has no more patience.

    The markers stay, because nobody has seen that it works: whoever comes next pays them. What fails is passed over.
    """
    for one in owed:
        with contextlib.suppress(LabctlError):
            known.of(one).order_back(site, one.before)


def outstanding(cluster: RunningCluster, docker: Docker) -> tuple[Marker, ...]:
    """What is away on a cluster, oldest first. Looks only."""
    return store.read(cluster, docker) if cluster.containers else ()


def pay_back_stale(
    cluster: RunningCluster, docker: Docker | None, progress: Progress, *, everything: bool = False
) -> tuple[Marker, ...]:
    """Pay back what processes that are gone have left away, and return it.

    The caller holds the cluster's lock. With ``everything`` also what a process has left that cannot be asked from
    here (another machine's); what a process that runs has taken is its own. Raises `CleanupIncomplete`.
    """
    if docker is None:
        return ()
    owed = [
        one
        for one in outstanding(cluster, docker)
        if one.stale or (everything and one.process.runs() is not True)
    ]
    if not owed:
        return ()
    kube = connect(cluster.kubeconfig, cluster.context)
    titles = ", ".join(one.title for one in owed)
    with contextlib.closing(kube), progress.step(f"Put back what an earlier run left away: {titles}") as step:
        pay_back(Site(cluster, docker, kube), owed, step.note)
        step.result("works again")
    return tuple(owed)


def pay_back_left(name: str, docker: Docker, progress: Progress) -> tuple[Marker, ...]:
    """`pay_back_stale` for a cluster by its name; nothing where there is none, or none that can be described."""
    if not docker.containers({KIND_CLUSTER: name}):
        return ()
    with contextlib.suppress(StateUnusable, NodeDown, CommandFailed):
        cluster = running.find(name, docker=docker)
        return pay_back_stale(cluster, docker, progress)
    return ()


def _put_back(site: Site, marker: Marker, note: Note, cause: BaseException | None) -> None:
    """Pay one marker back at the end of its block; an interrupt stays one, and its text names what is left."""
    left = f"{marker.title} of cluster {marker.cluster} may still be away (marker {marker.id}); {marker.next_step}"
    try:
        with undisturbed():
            pay_back(site, [marker], note)
    except LabctlError as wrong:
        if isinstance(cause, KeyboardInterrupt):
            raise type(cause)(f"interrupted; {left} ({wrong})") from wrong
        raise
    except KeyboardInterrupt as again:
        with contextlib.suppress(KeyboardInterrupt):
            order_back(site, [marker])
        raise type(again)(f"interrupted twice; {left}") from again


def _still_away(site: Site, failed: Iterable[tuple[Marker, LabctlError]]) -> CleanupIncomplete:
    pairs = list(failed)
    return CleanupIncomplete(
        f"{', '.join(marker.title for marker, _ in pairs)} could not be put back",
        leftovers=[f"{marker} (marker {marker.id}): {wrong}" for marker, wrong in pairs],
        why=str(pairs[0][1]),
        next_step=f"`labctl heal {site.cluster.name}` puts it back",
    )
