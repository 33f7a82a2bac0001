"""The three outcomes of a probe, kept apart: open, blocked, did not run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from labctl.errors import ApiRefused, ApiUnreachable, DeadlineExceeded, NodeDown, ProbeDidNotRun
from labctl.kube import ExecResult, Kube
from labctl.probe.answers import DnsAnswer, parse_dig
from labctl.probe.node import NodeProbe
from labctl.probe.pod import BATCH, PodProbe
from labctl.process import Completed
from labctl.tools.docker import Docker

DIG_CNAME = """;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 32034
;; flags: qr aa rd; QUERY: 1, ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 1

;; ANSWER SECTION:
shop.lab15.svc.cluster.local. 5	IN	CNAME	elsewhere-7f3a.example.com.
elsewhere-7f3a.example.com. 5	IN	A	192.0.2.7
"""
DIG_NXDOMAIN = ";; Got answer:\n;; ->>HEADER<<- opcode: QUERY, status: NXDOMAIN, id: 1\n"
DIG_DEAD = ";; communications error to 10.96.0.10#53: timed out\n;; no servers could be reached\n"


class FakeKube:
    """Answers pod_get from a function of the query, and exec from a table of programs."""

    def __init__(
        self,
        answer: Callable[[Mapping[str, Any]], str] = lambda query: "{}",
        programs: Mapping[str, ExecResult | Exception] | None = None,
    ) -> None:
        self.answer = answer
        self.programs = programs or {}
        self.asked: list[Mapping[str, Any]] = []

    def pod_get(
        self, namespace: str, pod: str, *, port: int, path: str, query: Any = None, timeout: float = 0
    ) -> str:
        self.asked.append(query or {})
        return self.answer(query or {})

    def exec(
        self, namespace: str, pod: str, argv: Sequence[str], *, container: Any = None, timeout: float = 0
    ) -> ExecResult:
        found = self.programs[argv[0]]
        if isinstance(found, Exception):
            raise found
        return found


def probe(kube: FakeKube) -> PodProbe:
    return PodProbe(cast(Kube, kube), "lab12", "client")


def raising(error: Exception) -> Callable[[Mapping[str, Any]], str]:
    def answer(query: Mapping[str, Any]) -> str:
        raise error

    return answer


def test_forty_connections_are_forty_and_name_everyone() -> None:
    names = ["a/n1", "b/n1", "c/n1"]
    kube = FakeKube(
        lambda query: json.dumps({"responses": [names[i % 3] for i in range(int(query["tries"]))]})
    )
    seen = probe(kube).dial("10.96.1.1", 80, tries=40)
    assert seen.open and not seen.blocked
    assert len(seen.answers) == 40
    assert max(int(query["tries"]) for query in kube.asked) <= BATCH


def test_a_dead_target_is_asked_once() -> None:
    kube = FakeKube(
        lambda query: json.dumps({"errors": ['Get "http://10.96.1.1:80/x": dial tcp: connection refused']})
    )
    seen = probe(kube).dial("10.96.1.1", 80, tries=40)
    assert seen.blocked and seen.refused and not seen.open
    assert len(kube.asked) == 1
    assert "nobody answered (dial tcp: connection refused)" in str(seen)


def test_a_time_out_is_blocked_but_not_refused() -> None:
    kube = FakeKube(lambda query: json.dumps({"errors": ["context deadline exceeded"]}))
    seen = probe(kube).dial("10.96.1.1", 80)
    assert seen.blocked and not seen.refused


def test_answers_that_agnhost_drops_are_not_taken_for_silence() -> None:
    """When the last connection fails agnhost's JSON has no responses at all; two of three did answer."""
    answers = iter([{"responses": ["a/n"]}, {"errors": ["connection refused"]}])
    kube = FakeKube(lambda query: json.dumps(next(answers)))
    seen = probe(kube).dial("10.96.1.1", 80, tries=4)
    assert seen.unnamed == 2
    assert not seen.open and not seen.blocked


def test_an_empty_body_is_an_answer() -> None:
    seen = probe(FakeKube(lambda query: "{}")).dial("10.0.0.1")
    assert seen.open
    assert "somebody with an empty answer" in str(seen)


def test_an_unresolved_name_is_blocked_and_says_why() -> None:
    refused = ApiRefused(
        "x", status=400, reason="BadRequest",
        why="400 Bad Request: host and/or port param are invalid. lookup nobody on 10.96.0.10:53: no such host",
    )  # fmt: skip
    seen = probe(FakeKube(raising(refused))).dial("nobody", 80)
    assert seen.blocked
    assert seen.refusals == ("lookup nobody on 10.96.0.10:53: no such host",)


@pytest.mark.parametrize(
    "error",
    [
        ApiRefused(
            "x", status=503, reason="ServiceUnavailable", why="error trying to reach service: dial tcp"
        ),
        ApiRefused("x", status=400, reason="BadRequest", why="request parameter not specified"),
        ApiUnreachable("x", why="connection refused"),
        DeadlineExceeded("x", seconds=5, last="no answer"),
    ],
)
def test_a_probe_that_did_not_run_is_neither_open_nor_blocked(error: Exception) -> None:
    with pytest.raises(ProbeDidNotRun):
        probe(FakeKube(raising(error))).dial("10.96.1.1", 80)
    with pytest.raises(ProbeDidNotRun):
        probe(FakeKube(programs={"dig": error})).dns("web")


def test_a_body_that_is_no_json_is_no_answer() -> None:
    with pytest.raises(ProbeDidNotRun, match="makes no sense"):
        probe(FakeKube(lambda query: "<html>gateway</html>")).dial("10.96.1.1", 80)


def test_a_pod_that_does_not_exist_stays_not_found() -> None:
    gone = ApiRefused("x", status=404, reason="NotFound")
    with pytest.raises(ApiRefused):
        probe(FakeKube(raising(gone))).dial("10.96.1.1", 80)
    with pytest.raises(ApiRefused):
        probe(FakeKube(programs={"ip": gone})).addresses()


def test_the_source_address_comes_without_its_port() -> None:
    kube = FakeKube(lambda query: json.dumps({"responses": ["10.244.1.5:43210"]}))
    assert probe(kube).seen_as("10.244.2.2") == "10.244.1.5"
    assert kube.asked[0]["request"] == "clientip"


def test_addresses_are_read_from_the_interfaces() -> None:
    shown = "2: eth0    inet 10.244.1.5/24 brd 10.244.1.255 scope global eth0\\ valid_lft forever"
    kube = FakeKube(programs={"ip": ExecResult(0, shown, "")})
    assert probe(kube).addresses() == {"10.244.1.5"}


def test_a_program_that_fails_is_a_probe_that_did_not_run() -> None:
    kube = FakeKube(programs={"ip": ExecResult(127, "", "ip: not found")})
    with pytest.raises(ProbeDidNotRun, match="not found"):
        probe(kube).addresses()


def test_a_missing_file_has_no_digest() -> None:
    kube = FakeKube(programs={"test": ExecResult(1, "", "")})
    assert probe(kube).sha256("/lost/data") is None


def test_dns_reads_the_chain() -> None:
    kube = FakeKube(programs={"dig": ExecResult(0, DIG_CNAME, "")})
    seen = probe(kube).dns("shop.lab15.svc.cluster.local")
    assert seen.status == "NOERROR"
    assert seen.cname == "elsewhere-7f3a.example.com"
    assert seen.addresses == {"192.0.2.7"}


def test_dns_knows_no_such_name_from_no_answer() -> None:
    assert parse_dig("x", DIG_NXDOMAIN).status == "NXDOMAIN"
    dead = probe(FakeKube(programs={"dig": ExecResult(9, DIG_DEAD, "")})).dns("x")
    assert dead == DnsAnswer("x", "NO ANSWER")
    with pytest.raises(ProbeDidNotRun):
        probe(FakeKube(programs={"dig": ExecResult(10, "", "internal error")})).dns("x")


class FakeDocker:
    """Keeps what was done to the node's container."""

    def __init__(self, exec_error: Exception | None = None) -> None:
        self.done: list[str] = []
        self.exec_error = exec_error

    def pause(self, container: str) -> None:
        self.done.append(f"pause {container}")

    def unpause(self, container: str) -> None:
        self.done.append(f"unpause {container}")

    def exec(self, container: str, argv: Sequence[str], **rest: Any) -> Completed:
        if self.exec_error:
            raise self.exec_error
        return Completed(tuple(argv), 3, "", "no", 0.1)


def test_a_stopped_node_is_a_probe_that_did_not_run() -> None:
    node = NodeProbe(cast(Docker, FakeDocker(NodeDown("a container is not running", why="exited"))), "worker")
    with pytest.raises(ProbeDidNotRun, match="exited"):
        node.run(["true"])


def test_a_program_on_a_node_may_fail() -> None:
    assert NodeProbe(cast(Docker, FakeDocker()), "worker").run(["false"]).exit_code == 3
