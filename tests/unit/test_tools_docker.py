"""The docker tool: its arguments, its JSON, and what its failures become."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from labctl.errors import (
    CommandFailed,
    DockerForbidden,
    DockerUnreachable,
    ImageUnavailable,
    Interrupted,
    LabctlError,
    NodeDown,
    RegistryRateLimited,
    RegistryUnreachable,
    RegistryUntrusted,
    ToolMissing,
    ToolUnfit,
)
from labctl.tools.docker import Docker
from labctl.tools.dockerwords import pull_failure
from tests.unit.conftest import FakeTools
from tests.unit.fakes import ScriptedTools, install


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedTools:
    return install(tmp_path, monkeypatch)


NO_DAEMON = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n"
)
NO_DAEMON_29 = (
    "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct and if "
    "the daemon is running: dial unix /var/run/docker.sock: connect: no such file or directory\n"
)
FORBIDDEN_20 = (
    "Got permission denied while trying to connect to the Docker daemon socket at unix:///run/docker.sock: "
    'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.24/version": dial unix: connect: permission denied\n'
)
FORBIDDEN_28 = FORBIDDEN_20.removeprefix("Got ")
FORBIDDEN_29 = "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock\n"


@pytest.mark.parametrize("said", [NO_DAEMON, NO_DAEMON_29])
def test_no_daemon_has_its_own_error(fakes: ScriptedTools, said: str) -> None:
    fakes.on("docker", stderr=said, exit_code=1)
    with pytest.raises(DockerUnreachable) as caught:
        Docker().version()
    assert caught.value.exit_code == 3
    assert "labctl host prepare" in caught.value.next_step


@pytest.mark.parametrize("said", [FORBIDDEN_20, FORBIDDEN_28, FORBIDDEN_29])
def test_a_socket_without_permission_has_another(fakes: ScriptedTools, said: str) -> None:
    fakes.on("docker", stderr=said, exit_code=1)
    with pytest.raises(DockerForbidden) as caught:
        Docker().containers()
    assert "docker group" in caught.value.next_step


def test_no_docker_program_is_a_third(fakes: ScriptedTools) -> None:
    with pytest.raises(ToolMissing) as caught:
        Docker().version()
    assert "labctl host prepare" in caught.value.next_step


def test_info_does_not_believe_a_client_that_describes_itself(fakes: ScriptedTools) -> None:
    fakes.on("docker", "info *", stdout={"ID": "", "ServerErrors": [NO_DAEMON.strip()]})
    with pytest.raises(DockerUnreachable):
        Docker().info()


NO_CONTEXT_28 = (
    'Failed to initialize: unable to resolve docker endpoint: context "gone": context not found: open '
    "/root/.docker/contexts/meta/283b/meta.json: no such file or directory\n"
)
NO_CONTEXT_20 = 'Current context "gone" is not found on the file system, please check your config file\n'
PODMAN_NOTE = "Emulate Docker CLI using podman. Create /etc/containers/nodocker to quiet msg.\n"
PODMAN_NIL = (
    'Error: template: version:1:9: executing "version" at <.Server.Version>: '
    "nil pointer evaluating *define.Version.Version\n"
)


@pytest.mark.parametrize("said", [NO_CONTEXT_28, NO_CONTEXT_20])
def test_a_context_that_was_removed_is_named_with_its_cure(fakes: ScriptedTools, said: str) -> None:
    fakes.on("docker", stderr=said, exit_code=1)
    with pytest.raises(DockerUnreachable) as caught:
        Docker().containers()
    assert "gone" in caught.value.why
    assert "docker context use" in caught.value.next_step


@pytest.mark.parametrize("said", [PODMAN_NOTE + PODMAN_NIL, PODMAN_NIL])
def test_podman_in_dockers_place_is_named(fakes: ScriptedTools, said: str) -> None:
    fakes.on("docker", stderr=said, exit_code=125)
    with pytest.raises(ToolUnfit, match="podman"):
        Docker().version()


def test_podman_that_has_a_version_is_known_by_what_it_says_of_itself(fakes: ScriptedTools) -> None:
    fakes.on("docker", "info *", stdout={"host": {"buildahVersion": "1.28.2"}, "version": {}})
    with pytest.raises(ToolUnfit, match="podman"):
        Docker().info()


def test_words_of_a_program_inside_a_container_are_not_dockers(fakes: ScriptedTools) -> None:
    fakes.on("docker", stderr="see podman and context not found in the manual\n", exit_code=1)
    with pytest.raises(CommandFailed):
        Docker().exec("node", ["man"])


def test_a_warning_before_the_answer_does_not_hide_it(fakes: ScriptedTools) -> None:
    fakes.on("docker", "info *", stdout='WARNING: no swap limit\n{"Driver": "overlay2"}\n')
    assert Docker().info() == {"Driver": "overlay2"}


@pytest.mark.parametrize("answer", ["", "no JSON", "{broken"])
def test_an_answer_that_cannot_be_read_is_no_bug_of_ours(fakes: ScriptedTools, answer: str) -> None:
    fakes.on("docker", "info *", stdout=answer)
    with pytest.raises(DockerUnreachable):
        Docker().info()


PULLS = [
    (
        "toomanyrequests: You have reached your pull rate limit. You may increase it by authenticating",
        RegistryRateLimited,
    ),
    (
        "Error response from daemon: received unexpected HTTP status: 429 Too Many Requests",
        RegistryRateLimited,
    ),
    (
        'Error response from daemon: Get "https://r.example/v2/": dial tcp: lookup r.example: no such host',
        RegistryUnreachable,
    ),
    ("dial tcp 192.0.2.1:443: connect: connection refused", RegistryUnreachable),
    (
        'Get "https://r.example/v2/": net/http: request canceled (Client.Timeout exceeded)',
        RegistryUnreachable,
    ),
    ("dial tcp 192.0.2.1:443: i/o timeout", RegistryUnreachable),
    ("proxyconnect tcp: dial tcp 127.0.0.1:1: connect: connection refused", RegistryUnreachable),
    ("tls: failed to verify certificate: x509: certificate signed by unknown authority", RegistryUntrusted),
    ("x509: certificate has expired or is not yet valid", RegistryUntrusted),
    ("Error response from daemon: manifest for x:1 not found: manifest unknown", ImageUnavailable),
    ("Error response from daemon: pull access denied for x, repository does not exist", ImageUnavailable),
    ("something nobody has seen before", ImageUnavailable),
]


@pytest.mark.parametrize(("said", "error"), PULLS)
def test_each_pull_failure_has_its_own_error_and_names_the_image(
    fakes: ScriptedTools, said: str, error: type[LabctlError]
) -> None:
    fakes.on("docker", "pull *", stderr=f"{said}\n", exit_code=1)
    with pytest.raises(LabctlError) as caught:
        Docker().pull("r.example/x:1")
    assert type(caught.value) is error
    assert "r.example/x:1" in caught.value.what
    assert said in caught.value.why
    assert caught.value.exit_code == 4


def test_the_three_registry_ids_differ() -> None:
    ids = {pull_failure("x", said).id for said, _ in PULLS}
    assert ids == {"registry-rate-limit", "registry-unreachable", "registry-certificate", "image-unavailable"}


def test_a_pull_that_takes_too_long_is_an_unreachable_registry(fakes: ScriptedTools) -> None:
    fakes.program("docker", "#!/bin/sh\nexec /bin/sleep 60\n")
    with pytest.raises(RegistryUnreachable) as caught:
        Docker().pull("x:1", timeout=0.2)
    assert "x:1" in caught.value.what


def test_a_registry_that_does_not_have_the_question_is_there(fakes: ScriptedTools) -> None:
    fakes.on("docker", "pull *", stderr="Error response from daemon: manifest unknown\n", exit_code=1)
    Docker().ask_registry("r.example/x")
    assert fakes.calls == [f"docker pull r.example/x@sha256:{'0' * 64}"]


def test_a_registry_that_refuses_is_not_there(fakes: ScriptedTools) -> None:
    fakes.on("docker", "pull *", stderr="Error response from daemon: 403 Forbidden\n", exit_code=1)
    with pytest.raises(ImageUnavailable):
        Docker().ask_registry("r.example/x")


def test_containers_are_listed_in_every_state_with_their_labels(fakes: ScriptedTools) -> None:
    rows = (
        '{"ID":"b2","Names":"c-worker","State":"exited","Image":"i","Labels":"a=1,list=x,y,kind=c"}\n'
        '{"ID":"a1","Names":"c-control-plane","State":"running","Image":"i","Labels":""}\n'
    )
    fakes.on("docker", "ps --all *", stdout=rows)
    found = Docker().containers({"io.x-k8s.kind.cluster": "c"})
    assert [(one.name, one.state) for one in found] == [
        ("c-control-plane", "running"),
        ("c-worker", "exited"),
    ]
    assert found[1].labels == {"a": "1", "list": "x,y", "kind": "c"}
    assert "--filter=label=io.x-k8s.kind.cluster=c" in fakes.calls[0]


@pytest.mark.parametrize(
    "said",
    [
        "Error response from daemon: No such container: n",
        "Error response from daemon: Container 0f5e is not running",
        "Error response from daemon: Container n is paused, unpause the container before exec",
    ],
)
def test_exec_in_a_dead_node_says_so_even_unchecked(fakes: ScriptedTools, said: str) -> None:
    fakes.on("docker", "exec *", stderr=f"{said}\n", exit_code=1)
    with pytest.raises(NodeDown) as caught:
        Docker().exec("n", ["true"], check=False)
    assert caught.value.why == said


def test_a_program_that_fails_inside_is_its_own_failure(fakes: ScriptedTools) -> None:
    fakes.on(
        "docker", "exec *", stderr="wget: Cannot connect to the Docker daemon of my dreams\n", exit_code=7
    )
    done = Docker().exec("n", ["wget"], check=False)
    assert done.exit_code == 7
    with pytest.raises(CommandFailed) as caught:
        Docker().exec("n", ["wget"])
    assert caught.value.returncode == 7


def test_exec_hands_over_stdin(fakes: ScriptedTools) -> None:
    rule = fakes.on("docker", "exec *", stdout="out", keep_stdin=True)
    assert Docker().exec("n", ["cat", "-"], stdin="in").stdout == "out"
    assert fakes.calls == ["docker exec --interactive n cat -"]
    assert (rule / "stdin").read_text() == "in"


def test_an_image_is_described_or_absent(fakes: ScriptedTools) -> None:
    row = {
        "Id": "sha256:1",
        "RepoTags": ["x:1"],
        "RepoDigests": None,
        "Size": 5,
        "Config": {"Labels": {"a": "b"}},
    }
    fakes.on("docker", "image inspect x:1", stdout=[row])
    fakes.on("docker", "image inspect *", stdout="[]\n", stderr="Error: No such image: y\n", exit_code=1)
    image = Docker().image("x:1")
    assert image is not None
    assert (image.id, image.tags, image.digests, image.labels, image.size) == (
        "sha256:1",
        ("x:1",),
        (),
        {"a": "b"},
        5,
    )
    assert Docker().image("y") is None


def test_run_never_pulls_and_names_a_missing_image(fakes: ScriptedTools) -> None:
    said = (
        "docker: Error response from daemon: No such image: x:latest.\n\nRun 'docker run --help' for more\n"
    )
    fakes.on("docker", "run *", stderr=said, exit_code=125)
    with pytest.raises(ImageUnavailable) as caught:
        Docker().run("x", ["y"], options=["--rm"])
    assert fakes.calls == ["docker run --pull=never --rm x y"]
    assert "No such image" in caught.value.why


def test_removing_is_idempotent_and_takes_volumes(fakes: ScriptedTools) -> None:
    fakes.on("docker", "rm *", stderr="Error: No such container: a\n", exit_code=1)
    Docker().remove("a")
    Docker().remove()
    assert fakes.calls == ["docker rm --force --volumes a"]


def test_removing_reports_what_stays(fakes: ScriptedTools) -> None:
    said = (
        "Error: No such container: a\nError response from daemon: driver failed to remove root filesystem\n"
    )
    fakes.on("docker", "rm *", stderr=said, exit_code=1)
    with pytest.raises(CommandFailed):
        Docker().remove("a", "b")


def test_a_network_shows_its_subnets(fakes: ScriptedTools) -> None:
    fakes.on("docker", "network ls *", stdout="1\n2\n")
    config = [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}, {"Subnet": "fc00::/64"}]
    rows = [{"Name": "bridge", "IPAM": {"Config": None}}, {"Name": "kind", "IPAM": {"Config": config}}]
    fakes.on("docker", "network inspect 1 2", stdout=rows)
    found = Docker().network("kind")
    assert found is not None
    assert found.subnets == ("172.18.0.0/16", "fc00::/64")
    assert Docker().network("kin") is None


def test_loading_names_what_was_loaded(fakes: ScriptedTools) -> None:
    fakes.on("docker", "load *", stdout="Loaded image: a:1\nLoaded image ID: sha256:2\n")
    assert Docker().load(Path("/x.tar")) == ("a:1", "sha256:2")


def test_a_docker_of_another_thread_can_be_told_to_stop(fake_tools: FakeTools) -> None:
    fake_tools.sh("docker", "exec sleep 30")
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        Docker().cancelled_by(stop).exec("node", ["true"])
    assert time.monotonic() - began < 20
    assert Docker()._cancel is None
