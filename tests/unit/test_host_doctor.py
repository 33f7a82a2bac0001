"""The doctor: each check can fail, all failures come at once, each with its cure (F1, F2, F3, F6, F19)."""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from pathlib import Path

import pytest

from labctl import process
from labctl.cluster.spec import ClusterSpec
from labctl.cluster.up import demands
from labctl.errors import (
    DockerForbidden,
    DockerUnreachable,
    HostError,
    PortTaken,
    ToolMissing,
    ToolUnfit,
    UsageError,
)
from labctl.host import doctor, kindbuild, startprobe
from labctl.host.finding import Finding, HostPort, Needs
from labctl.host.machine import Machine
from labctl.tools import kind
from tests.unit.fakes import ScriptedTools, install
from tests.unit.fakes.machine import FakeMachine

NODE = "labctl/node:v1.37.2"
NEEDS = Needs(images=(NODE,))


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedTools:
    return install(tmp_path, monkeypatch)


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path / "machine")


def ready(fakes: ScriptedTools) -> None:
    """Answers of a machine on which nothing is missing; rules that a test made before win."""
    info = {"Driver": "overlay2", "CgroupVersion": "2", "Architecture": "x86_64", "DefaultRuntime": "runc"}
    fakes.on("docker", "version *", stdout="28.1.0\n")
    fakes.on("docker", "info *", stdout={**info, "DockerRootDir": "/var/lib/docker"})
    fakes.on("docker", f"image inspect {NODE}", stdout=[{"Id": "sha256:1", "Size": 1}])
    fakes.on("docker", "import *")
    fakes.on("docker", "run *")
    fakes.on("docker", "image rm *")
    fakes.on("docker", "ps *")
    fakes.on("docker", "network ls *")
    fakes.on("kind", "version", stdout=f"kind v{kind.VERSION} go1.26.3 linux/amd64\n")


def found(machine: Machine, needs: Needs = NEEDS) -> dict[str, Finding]:
    return {finding.id: finding for finding in doctor.examine(needs, machine=machine)}


def test_a_ready_machine_passes_every_check(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    findings = doctor.require(NEEDS, machine=machine)
    assert {finding.status for finding in findings} == {"ok"}
    assert [finding.id for finding in findings] == [check.id for check in doctor.CHECKS]
    assert not any(finding.cure for finding in findings)


def test_every_check_has_an_id_and_a_docstring_of_its_own() -> None:
    assert len({check.id for check in doctor.CHECKS}) == len(doctor.CHECKS)
    assert all((check.look.__doc__ or "").endswith(".") for check in doctor.CHECKS)


# --- F1: docker


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it running?",
            DockerUnreachable,
        ),
        (
            "Got permission denied while trying to connect to the Docker daemon socket at unix:///x",
            DockerForbidden,
        ),
    ],
)
def test_docker_that_cannot_be_used_is_found_at_once(
    fakes: ScriptedTools, machine: FakeMachine, tmp_path: Path, said: str, error: type[HostError]
) -> None:
    fakes.on("docker", stderr=f"{said}\n", exit_code=1)
    ready(fakes)
    started = time.monotonic()
    with pytest.raises(error) as caught:
        doctor.require(NEEDS, machine=machine)
    assert time.monotonic() - started < 5
    assert caught.value.exit_code == 3
    assert fakes.called("docker") == [
        "docker version --format={{.Server.Version}}"
    ]  # asked once, nothing changed
    assert list((tmp_path / "home").iterdir()) == []


def test_docker_missing_and_forbidden_have_different_ids() -> None:
    assert len({DockerUnreachable.id, DockerForbidden.id, ToolMissing.id}) == 3


def test_checks_that_stand_on_docker_are_not_made_without_it(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    fakes.on("kind", "version", stdout=f"kind v{kind.VERSION}\n")
    findings = found(machine)
    assert findings["docker"].error is ToolMissing
    assert {name for name, one in findings.items() if one.status == "skip"} == {
        "docker-version",
        "docker-storage",
        "privileged",
        "image-source",
        "dead-nodes",
    }


def test_an_old_docker_is_named_with_what_is_needed(fakes: ScriptedTools, machine: FakeMachine) -> None:
    fakes.on("docker", "version *", stdout="19.03.8\n")
    ready(fakes)
    finding = found(machine)["docker-version"]
    assert finding.error is ToolUnfit
    assert "19.03.8" in finding.seen
    assert "20.10" in finding.cure


def test_a_daemon_elsewhere_is_a_warning(
    fakes: ScriptedTools, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(fakes)
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.7:2376")
    assert found(machine)["docker"].status == "warn"


# --- what docker can start

NO_CAPS = (
    "docker: Error response from daemon: runc create failed: unable to apply caps: operation not permitted\n"
)


def test_privileged_containers_that_do_not_start_fail_with_the_cure(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    fakes.on("docker", "run *", stderr=NO_CAPS, exit_code=125)
    ready(fakes)
    machine.without_sys_resource()
    findings = found(machine)
    assert findings["privileged"].failed
    assert "unable to apply caps" in findings["privileged"].seen
    assert "labctl host prepare" in findings["privileged"].cure
    assert findings["capability"].failed


def test_a_missing_capability_is_no_failure_when_the_runtime_does_without(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    ready(fakes)
    machine.without_sys_resource()
    assert found(machine)["capability"].status == "ok"


def test_the_start_probe_is_removed_also_when_it_fails(fakes: ScriptedTools, machine: FakeMachine) -> None:
    fakes.on("docker", "run *", stderr=NO_CAPS, exit_code=125)
    ready(fakes)
    found(machine)
    (imported,) = fakes.called("docker import")
    assert fakes.called("docker image rm") == [f"docker image rm --force {imported.split()[-1]}"]


def test_nothing_is_started_where_a_node_runs_already(fakes: ScriptedTools, machine: FakeMachine) -> None:
    row = '{"ID":"1","Names":"c-worker","State":"running","Image":"i","Labels":"io.x-k8s.kind.cluster=c"}\n'
    fakes.on("docker", "ps *", stdout=row)
    ready(fakes)
    assert found(machine)["privileged"].status == "ok"
    assert fakes.called("docker run") == []


@pytest.mark.skipif(sys.platform != "linux", reason="the program is one for Linux")
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_the_start_probe_is_a_program_that_exits_with_0(tmp_path: Path, architecture: str) -> None:
    program = tmp_path / "exit"
    program.write_bytes(startprobe.program(architecture))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    if os.uname().machine != architecture:
        pytest.skip(f"only runs on {architecture}")
    assert process.run([str(program)], timeout=10, check=False).exit_code == 0


def test_cgroup_v1_is_a_warning_for_a_pulled_image_only(fakes: ScriptedTools, machine: FakeMachine) -> None:
    fakes.on("docker", "info *", stdout={"CgroupVersion": "1", "Driver": "overlay2"})
    ready(fakes)
    assert found(machine)["cgroup"].status == "ok"
    assert found(machine, Needs(images=(NODE,), source="pull"))["cgroup"].status == "warn"


def test_copying_storage_is_a_warning(fakes: ScriptedTools, machine: FakeMachine) -> None:
    fakes.on("docker", "info *", stdout={"Driver": "vfs"})
    ready(fakes)
    assert found(machine)["docker-storage"].status == "warn"


def test_stopped_nodes_are_named(fakes: ScriptedTools, machine: FakeMachine) -> None:
    row = '{"ID":"1","Names":"c-worker","State":"exited","Image":"i","Labels":"io.x-k8s.kind.cluster=c"}\n'
    fakes.on("docker", "ps *", stdout=row)
    ready(fakes)
    finding = found(machine)["dead-nodes"]
    assert finding.status == "warn"
    assert "c-worker (exited)" in finding.seen


# --- F3: what the machine has


def test_all_failures_come_at_once_each_with_its_cure(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    machine.put("/proc/meminfo", "MemAvailable: 262144 kB\n")
    machine.put("/proc/sys/fs/inotify/max_user_instances", "64\n")
    machine.disk = (100 * 1024**2, 200 * 1024**3)
    with pytest.raises(HostError) as caught:
        doctor.require(NEEDS, machine=machine)
    error = caught.value
    assert error.exit_code == 3
    for check in ("memory", "inotify", "disk-docker", "disk-state"):
        assert f"{check}: " in error.details
    assert error.details.count("cure: ") == 4


def test_a_skipped_check_is_not_made(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    machine.put("/proc/meminfo", "MemAvailable: 262144 kB\n")
    findings = doctor.require(NEEDS, ["memory"], machine=machine)
    assert "memory" not in {finding.id for finding in findings}


def test_skipping_a_check_that_does_not_exist_names_those_that_do(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    with pytest.raises(UsageError) as caught:
        doctor.require(NEEDS, ["memmory"], machine=machine)
    assert "memory" in caught.value.next_step
    assert caught.value.exit_code == 2
    assert fakes.calls == []


def test_memory_depends_on_the_nodes_asked_for(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    machine.put("/proc/meminfo", "MemAvailable: 2097152 kB\n")
    assert found(machine)["memory"].status == "ok"
    assert found(machine, Needs(workers=20, images=(NODE,)))["memory"].failed


CGROUP_FILES = [
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
]


@pytest.mark.parametrize("files", CGROUP_FILES)
def test_a_cgroup_limit_counts_as_memory(
    fakes: ScriptedTools, machine: FakeMachine, files: tuple[str, str]
) -> None:
    ready(fakes)
    machine.put(f"/sys/fs/cgroup/{files[0]}", str(1024**3))
    machine.put(f"/sys/fs/cgroup/{files[1]}", str(1024**3 - 5))
    assert machine.memory_available() == 5
    assert found(machine)["memory"].failed


def test_no_cgroup_limit_is_no_limit(machine: FakeMachine) -> None:
    machine.put("/sys/fs/cgroup/memory.max", "max\n")
    machine.put("/sys/fs/cgroup/memory.current", "5\n")
    assert machine.memory_available() == 16 * 1024**3


@pytest.mark.parametrize(
    ("instances", "workers", "status"), [(128, 2, "warn"), (128, 20, "fail"), (2048, 20, "ok")]
)
def test_inotify_agrees_with_what_was_seen(
    fakes: ScriptedTools, machine: FakeMachine, instances: int, workers: int, status: str
) -> None:
    ready(fakes)
    machine.put("/proc/sys/fs/inotify/max_user_instances", f"{instances}\n")
    assert found(machine, Needs(workers=workers, images=(NODE,)))["inotify"].status == status


@pytest.mark.parametrize(
    ("file", "text", "status"),
    [
        ("", "", "fail"),
        ("/lib/modules/6.1/modules.dep", "kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz: x/ip_vs.ko.xz\n", "fail"),
        ("/lib/modules/6.1/modules.dep", "kernel/net/netfilter/ipvs/ip_vs.ko.xz: x.ko\n", "ok"),
        ("/lib/modules/6.1/modules.builtin", "kernel/net/netfilter/ipvs/ip_vs.ko\n", "ok"),
        ("/lib/modules/5.9/modules.builtin", "kernel/net/netfilter/ipvs/ip_vs.ko\n", "fail"),
        ("/sys/module/ip_vs/refcnt", "0\n", "ok"),
    ],
)
def test_ipvs_is_refused_where_the_kernel_has_none(
    fakes: ScriptedTools, machine: FakeMachine, file: str, text: str, status: str
) -> None:
    ready(fakes)
    machine.put("/proc/sys/kernel/osrelease", "6.1\n")
    if file:
        machine.put(file, text)
    finding = found(machine, Needs(proxy_mode="ipvs", images=(NODE,)))["service-proxy"]
    assert finding.status == status
    assert found(machine, Needs(proxy_mode="nftables", images=(NODE,)))["service-proxy"].status == "ok"


def test_what_a_cluster_file_says_of_kube_proxy_reaches_the_doctor() -> None:
    spec = ClusterSpec(kind={"networking": {"kubeProxyMode": "ipvs"}})
    assert demands.of_machine(spec).proxy_mode == "ipvs"
    assert demands.of_machine(ClusterSpec()).proxy_mode == "iptables"


def test_one_core_is_a_warning(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    machine.processors = 1
    assert found(machine)["cores"].status == "warn"


def test_a_disk_that_is_nearly_full_is_a_warning(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    machine.disk = (40 * 1024**3, 1000 * 1024**3)
    assert found(machine)["disk-docker"].status == "warn"


def test_a_build_needs_more_disk_than_a_present_image(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    machine.disk = (8 * 1024**3, 100 * 1024**3)
    assert found(machine)["disk-docker"].status == "ok"
    fakes.on("docker", "image inspect absent:1", stderr="Error: No such image: absent:1\n", exit_code=1)
    assert found(machine, Needs(images=("absent:1",), source="build"))["disk-docker"].failed


# --- F6: ports and subnets


def test_a_taken_port_is_named_with_its_owner(fakes: ScriptedTools) -> None:
    ready(fakes)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        finding = {f.id: f for f in doctor.examine(Needs(images=(NODE,), ports=(HostPort(port),)))}["ports"]
    assert finding.failed
    assert finding.error is PortTaken
    assert f"127.0.0.1:{port}/tcp by " in finding.seen
    assert "(pid " in finding.seen


def test_a_port_is_free_for_the_other_protocol_and_address(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    ready(fakes)
    header = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    )
    line = (
        "   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1\n"
    )
    machine.put("/proc/net/tcp", header + line)

    def status(port: HostPort) -> str:
        return found(machine, Needs(images=(NODE,), ports=(port,)))["ports"].status

    assert status(HostPort(80)) == "fail"
    assert status(HostPort(80, "0.0.0.0")) == "fail"
    assert status(HostPort(80, "192.0.2.1")) == "ok"
    assert status(HostPort(80, protocol="udp")) == "ok"
    assert status(HostPort(81)) == "ok"


def test_a_port_that_a_container_publishes_names_the_container(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    fakes.on("docker", "ps *", stdout='{"ID":"1","Names":"web","State":"running","Image":"i","Labels":""}\n')
    ports = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/tcp": None}
    fakes.on(
        "docker", "container inspect web", stdout=[{"Name": "/web", "NetworkSettings": {"Ports": ports}}]
    )
    ready(fakes)
    finding = found(machine, Needs(images=(NODE,), ports=(HostPort(8080),)))["ports"]
    assert "127.0.0.1:8080/tcp by container web" in finding.seen


def test_the_ports_of_a_cluster_that_is_replaced_are_free_and_no_others(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    row = '{"ID":"%s","Names":"%s","State":"running","Image":"i","Labels":"io.x-k8s.kind.cluster=%s"}\n'
    fakes.on("docker", "ps *", stdout=row % ("1", "old-plane", "old") + row % ("2", "other-plane", "other"))
    both = [
        {"Name": f"/{name}-plane", "NetworkSettings": {"Ports": {"80/tcp": [{"HostPort": port}]}}}
        for name, port in (("old", "8080"), ("other", "8081"))
    ]
    fakes.on("docker", "container inspect old-plane other-plane", stdout=both)
    ready(fakes)

    def finding(port: int, replaces: str) -> Finding:
        return found(machine, Needs(images=(NODE,), ports=(HostPort(port),), replaces=replaces))["ports"]

    assert finding(8080, "old").status == "ok"
    assert finding(8081, "old").failed


def test_subnets_that_overlap_fail(fakes: ScriptedTools, machine: FakeMachine) -> None:
    fakes.on("docker", "network ls *", stdout="1\n")
    config = {"Config": [{"Subnet": "10.200.0.0/16"}, {"Subnet": "fc00::/64"}]}
    fakes.on("docker", "network inspect *", stdout=[{"Name": "kind", "IPAM": config}])
    ready(fakes)
    assert found(machine)["subnets"].status == "ok"
    inside = Needs(images=(NODE,), pod_subnet="10.200.4.0/24")
    assert "docker network kind" in found(machine, inside)["subnets"].seen
    assert found(machine, Needs(images=(NODE,), pod_subnet="10.96.0.0/12"))["subnets"].failed
    dual = Needs(images=(NODE,), pod_subnet="10.244.0.0/16,fc00::/56")
    assert found(machine, dual)["subnets"].failed


def test_a_host_route_inside_the_pod_subnet_is_a_warning(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    machine.put("/proc/net/route", "Iface ...\neth1\t0003F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")
    finding = found(machine)["subnets"]
    assert finding.status == "warn"
    assert "10.244.3.0/24 (eth1)" in finding.seen


# --- F2: programs


def test_kind_missing_names_the_version_needed(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    (fakes.bin / "kind").unlink()
    with pytest.raises(ToolMissing) as caught:
        doctor.require(NEEDS, machine=machine)
    assert kind.VERSION in caught.value.why


@pytest.mark.parametrize("version", ["0.20.0", "0.34.0", "0.33.0-alpha"])
def test_a_kind_that_does_not_fit_names_both_versions(
    fakes: ScriptedTools, machine: FakeMachine, version: str
) -> None:
    fakes.on("kind", "version", stdout=f"kind v{version} go1.20 linux/amd64\n")
    ready(fakes)
    with pytest.raises(ToolUnfit) as caught:
        doctor.require(NEEDS, machine=machine)
    assert version in caught.value.why
    assert kind.VERSION in caught.value.why


def test_a_kind_that_labctl_did_not_build_is_not_trusted(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    own = kind.own_program()
    own.parent.mkdir(parents=True)
    own.write_text(f"#!/bin/sh\necho kind v{kind.VERSION}\n")
    own.chmod(0o755)
    kindbuild.checksum_file().write_text("0" * 64)
    assert "checksum" in found(machine)["kind"].seen
    assert found(machine)["kind"].error is ToolUnfit


NO_HOST = 'Error response from daemon: Get "https://registry.example/v2/": dial tcp: lookup: no such host\n'


def test_no_image_no_registry_no_go_is_one_failure_with_all_reasons(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    fakes.on("docker", "image inspect *", stderr="Error: No such image: x\n", exit_code=1)
    fakes.on("docker", "pull *", stderr=NO_HOST, exit_code=1)
    ready(fakes)
    finding = found(machine)["image-source"]
    assert finding.failed
    assert "no such host" in finding.seen
    assert "no Go toolchain" in finding.seen
    assert "host prepare --build" in finding.cure


def test_an_old_go_is_named_with_both_versions(fakes: ScriptedTools, machine: FakeMachine) -> None:
    fakes.on("docker", "image inspect *", stderr="Error: No such image: x\n", exit_code=1)
    fakes.on("go", "env GOVERSION", stdout="go1.19.8\n")
    ready(fakes)
    finding = found(machine, Needs(images=(NODE,), source="build"))["image-source"]
    assert "found 1.19.8, needed 1.26" in finding.seen


def test_a_registry_that_answers_is_enough(fakes: ScriptedTools, machine: FakeMachine) -> None:
    fakes.on("docker", "image inspect *", stderr="Error: No such image: x\n", exit_code=1)
    fakes.on("docker", "pull *", stderr="Error response from daemon: manifest unknown\n", exit_code=1)
    ready(fakes)
    assert found(machine)["image-source"].status == "ok"


def test_an_absent_image_fails_where_it_must_be_present(fakes: ScriptedTools, machine: FakeMachine) -> None:
    fakes.on("docker", "image inspect *", stderr="Error: No such image: x\n", exit_code=1)
    ready(fakes)
    assert found(machine, Needs(images=(NODE,), source="present"))["image-source"].failed
    assert fakes.called("docker pull") == []


def test_another_labctl_first_on_path_is_noticed(fakes: ScriptedTools, machine: FakeMachine) -> None:
    ready(fakes)
    program = fakes.program("labctl", "#!/bin/sh\necho a lab of something else\n")
    finding = found(machine)["namesake"]
    assert finding.status == "warn"
    assert str(program) in finding.seen
    fakes.program("labctl", "#!/usr/bin/python3\nfrom labctl.cli.main import main\nmain()\n")
    assert found(machine)["namesake"].status == "ok"
