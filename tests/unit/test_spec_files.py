"""Cluster files: what is read, and that every fault is named with its place (F31)."""

from __future__ import annotations

import gc
import json
import resource
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.cluster.file import specfile, yamlfile
from labctl.cluster.spec import ClusterSpec, complaints, from_json
from labctl.cluster.up import kindconfig
from labctl.errors import ConfigError, ConfigProblem, UsageError

HEAD = "apiVersion: labctl.dev/v1\nkind: Cluster\n"


def problems(text: str | bytes, *, allow_raw: bool = False) -> tuple[ConfigProblem, ...]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        specfile.loads(data, "f.yaml", allow_raw=allow_raw)
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_every_shipped_file_is_a_cluster_that_can_be_made() -> None:
    found = specfile.shipped()
    assert {"single", "two-nodes", "three-nodes", "no-cni"} <= set(found)
    for name, path in found.items():
        spec = specfile.load(path)
        assert spec.name == name
        assert complaints(spec) == ()


def test_the_committed_schema_is_the_one_that_is_generated() -> None:
    committed = Path(__file__).parents[2] / "cluster-configs" / "cluster.schema.json"
    assert json.loads(committed.read_text()) == specfile.schema()


def test_an_empty_cluster_takes_the_defaults() -> None:
    assert specfile.loads(HEAD.encode()) == ClusterSpec()


@pytest.mark.parametrize(
    ("body", "line", "column", "word", "allowed"),
    [
        ("colour: red\n", 3, 1, "unknown key", "loadBalancer"),
        ("name: a\nname: b\n", 4, 1, "second time", "each key once"),
        ("nodes:\n\tworkers: 1\n", 4, 1, "not YAML", "spaces instead of the tab"),
        ("nodes: {workers: no}\n", 3, 18, "truth value", "decimal integer"),
        ("nodes: {workers: 1e3}\n", 3, 18, "truth value", "decimal integer"),
        ("nodes: {workers: 0o8}\n", 3, 18, "truth value", "decimal integer"),
        ("nodes: {workers: 010}\n", 3, 18, "truth value", "decimal integer"),
        ("nodes: {workers: -1}\n", 3, 18, "workers cannot be this", "0 to 20"),
        ("nodes: {workers: 99}\n", 3, 18, "workers cannot be this", "0 to 20"),
        ("nodes: {workers: true}\n", 3, 18, "workers cannot be this", "0 to 20"),
        ("nodes: {controlPlanes: 2}\n", 3, 24, "controlPlanes cannot be this", "1 or 3"),
        ("nodes: 3\n", 3, 8, "nodes cannot be this", "controlPlanes and workers"),
        ("name: ../x\n", 3, 7, "name cannot be this", "lower-case"),
        ("name: -x\n", 3, 7, "name cannot be this", "lower-case"),
        (f"name: {'a' * 64}\n", 3, 7, "name cannot be this", "at most 32"),
        ("name: !!python/object/apply:os.system [id]\n", 3, 7, "tags are not read", "plain values"),
        ("name: &a x\ncni: *a\n", 3, 7, "anchors are not read", ""),
        ("cni: none\n", 3, 1, "load balancer without a CNI", ""),
        ("cni: none\nloadBalancer: metallb\n", 4, 1, "load balancer without a CNI", ""),
        ("cni: weave\n", 3, 6, "cni cannot be this", "flannel"),
        ("kindConfig: {networking: {kubeProxyMode: ebpf}}\n", 3, 42, "kubeProxyMode cannot be", "nftables"),
        ("kindConfig: {networking: {kubeProxyMode: none}}\n", 1, 1, "nothing would serve Services", ""),
        ("kindConfig: {networking: {podSubnet: 10.96.0.0/12}}\n", 3, 38, "overlap", "apart"),
        ("kindConfig: {networking: {podSubnet: 10.244.0.0/33}}\n", 3, 38, "no IPv4 network", "10.244.0.0/16"),
        (
            "kindConfig: {networking: {disableDefaultCNI: false}}\n",
            3,
            27,
            "not to be set here",
            "cni decides",
        ),
        ("kindConfig: {containerdConfigPatches: [x]}\n", 3, 14, "reaches into", "--allow-raw-kind"),
        ("kindConfig: {nodes: [{extraMounts: []}]}\n", 3, 23, "reaches into", "--allow-raw-kind"),
        ("---\n" + HEAD, 3, 1, "second document", "one cluster per file"),
    ],
)
def test_a_fault_is_named_with_its_place_and_what_is_allowed(
    body: str, line: int, column: int, word: str, allowed: str
) -> None:
    found = problems(HEAD + body)
    first = found[0]
    assert (first.line, first.column) == (line, column), str(first)
    assert word in first.message
    assert allowed in first.allowed


def test_all_faults_are_found_at_once_in_the_order_of_the_lines() -> None:
    found = problems("kind: Cluster\nname: -x\nnodes: {workers: 99, masters: 1}\ncni: none of them\n")
    assert [one.line for one in found] == [1, 2, 3, 3, 4]
    assert "apiVersion is missing" in found[0].message


def test_kind_s_own_block_under_kind_is_pointed_to_its_place() -> None:
    found = problems("apiVersion: labctl.dev/v1\nkind: {networking: {}}\n")
    assert "kindConfig" in found[0].message


@pytest.mark.parametrize(
    ("data", "line", "column", "word"),
    [
        (b"", 1, 1, "empty"),
        (b" \n\n", 1, 1, "empty"),
        (b"# nothing but this\n", 1, 1, "empty"),
        (b"\xef\xbb\xbf" + HEAD.encode(), 1, 1, "byte order mark"),
        ("kind: Cluster\nname: caf\xe9\n".encode("latin-1"), 2, 10, "not UTF-8"),
        (b"a: 1\n" * 450_000, 1, 1, "too long"),
        (b"[" * 1100 + b"]" * 1100, 1, 33, "nested too deep"),
        (b"name: \x00\n", 1, 7, "character"),
        (b"- a\n- b\n", 1, 1, "mapping"),
        (b"? [a, b]\n: c\n", 1, 3, "key must be a word"),
    ],
)
def test_hostile_bytes_are_refused(data: bytes, line: int, column: int, word: str) -> None:
    first = problems(data)[0]
    assert word in first.message
    assert (first.line, first.column) == (line, column)


def bomb() -> bytes:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines).encode()


def seconds(data: bytes) -> float:
    """Processor time, in seconds, that it takes to refuse ``data`` in a process with nothing else in it:
    the garbage collector does not walk through what the other tests have left."""
    gc.collect()
    gc.freeze()
    try:
        started = time.process_time()
        problems(data)
        return time.process_time() - started
    finally:
        gc.unfreeze()


def test_hostile_files_cost_neither_time_nor_memory() -> None:
    longest = HEAD.encode() + b"".join(b"k%05d: v\n" % n for n in range(20_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in (bomb(), b"[" * 200_000, b"{a: " * 60_000, b"a: 1\n" * 450_000, longest[: 256 * 1024]):
        # One of three: what a busy machine adds is not the parser's.
        assert any(seconds(data) < 1.0 for _ in range(3))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_file_that_cannot_be_read_is_a_problem_too(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(ConfigError) as caught:
            specfile.load(path)
        assert "cannot be read" in caught.value.problems[0].message


def test_an_unknown_name_lists_the_files_that_ship() -> None:
    with pytest.raises(UsageError) as caught:
        specfile.locate("four-nodes")
    assert "three-nodes" in caught.value.why
    assert specfile.locate("./four-nodes") == Path("four-nodes")


def test_patches_are_taken_when_the_user_vouches() -> None:
    body = HEAD + 'kindConfig: {kubeadmConfigPatches: ["kind: ClusterConfiguration"]}\n'
    assert any("--allow-raw-kind" in one.allowed for one in problems(body))
    fine = specfile.loads(body.encode(), allow_raw=True)
    assert fine.kind == {"kubeadmConfigPatches": ["kind: ClusterConfiguration"]}


# --- round trips

NAMES = st.from_regex(r"\A[a-z]([-a-z0-9]{0,30}[a-z0-9])?\Z")
SPECS = st.builds(
    ClusterSpec,
    name=NAMES,
    control_planes=st.sampled_from([1, 3]),
    workers=st.integers(0, 20),
    cni=st.sampled_from(["flannel", "none"]),
    load_balancer=st.sampled_from(["metallb", "none"]),
    kind=st.fixed_dictionaries({}, optional={
        "featureGates": st.dictionaries(st.from_regex(r"\A[A-Za-z][A-Za-z0-9]{0,20}\Z"), st.booleans(), max_size=3),
        "runtimeConfig": st.dictionaries(
            st.from_regex(r"\A[a-z0-9]{1,9}/v[0-9]\Z"), st.sampled_from(["true", "false"]), max_size=3
        ),
    }),
).filter(lambda spec: complaints(spec) == ())  # fmt: skip


@settings(deadline=None)
@given(SPECS)
def test_a_spec_survives_json(spec: ClusterSpec) -> None:
    assert from_json(json.loads(json.dumps(spec.as_json()))) == spec
    assert spec.difference(spec) == ()


@settings(max_examples=60, deadline=None)
@given(SPECS)
def test_a_spec_survives_a_file(spec: ClusterSpec) -> None:
    data = spec.as_json()
    file = {
        "apiVersion": "labctl.dev/v1",
        "kind": "Cluster",
        "name": data["name"],
        "nodes": {"controlPlanes": data["controlPlanes"], "workers": data["workers"]},
        "cni": data["cni"],
        "loadBalancer": data["loadBalancer"],
        "kindConfig": data["kindConfig"],
    }
    assert specfile.loads(json.dumps(file).encode()) == spec


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_but_a_config_error(data: bytes) -> None:
    found: tuple[ConfigProblem, ...] | None = None
    try:
        yamlfile.parse(data, "f")
    except ConfigError as refused:
        found = refused.problems
    assert found != ()
    assert all(one.line >= 1 and one.column >= 1 for one in found or ())


def test_a_difference_names_what_is_asked_for_and_what_is_there() -> None:
    asked, there = ClusterSpec(workers=3), ClusterSpec(name="other", workers=2)
    assert asked.difference(there) == ("workers: 3 asked for, 2 there",)


# --- rendering


def test_rendering_closes_ports_merges_nodes_by_place_and_adds_patches() -> None:
    spec = ClusterSpec(
        workers=1,
        kind={
            "networking": {"podSubnet": "10.10.0.0/16"},
            "nodes": [{"extraPortMappings": [{"containerPort": 80, "hostPort": 8080}]}],
            "kubeadmConfigPatches": ["kind: ClusterConfiguration"],
        },
    )
    needs = kindconfig.MachineNeeds(cgroup_v1=True, restrict_oom_score_adj=True)
    out = kindconfig.config(spec, needs)
    assert out["networking"]["apiServerAddress"] == "127.0.0.1"
    assert out["networking"]["podSubnet"] == "10.10.0.0/16"
    assert out["networking"]["disableDefaultCNI"] is True
    assert [node["role"] for node in out["nodes"]] == ["control-plane", "worker"]
    assert out["nodes"][0]["extraPortMappings"][0]["listenAddress"] == "127.0.0.1"
    assert len(out["kubeadmConfigPatches"]) == 2
    assert "apiVersion" not in out["kubeadmConfigPatches"][0]
    assert "restrict_oom_score_adj = true" in out["containerdConfigPatches"][0]
    assert kindconfig.host_ports(spec) == ((8080, "127.0.0.1", "tcp"),)
    assert kindconfig.config(spec) == kindconfig.config(spec), "rendering changes its input"


def test_the_rendered_text_is_yaml_of_the_same() -> None:
    import yaml

    spec = ClusterSpec(kind={"kubeadmConfigPatches": ["a: 1\nb: 2\n"]})
    assert yaml.safe_load(kindconfig.render(spec)) == kindconfig.config(spec)
    assert "|" in kindconfig.render(spec)


def test_nodes_are_named_as_kind_names_them() -> None:
    spec = ClusterSpec(name="c", control_planes=3, workers=2)
    assert spec.node_names() == (
        "c-control-plane", "c-control-plane2", "c-control-plane3", "c-worker", "c-worker2"
    )  # fmt: skip
