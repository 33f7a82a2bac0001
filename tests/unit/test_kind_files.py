"""kind's own settings in a cluster file: each is judged as kind, docker, kubeadm and the kubelet would."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.cluster.file import specfile
from labctl.cluster.file.kindblock import BLOCK
from labctl.cluster.file.shape import Listed, Mapped, Shape, Struct
from labctl.cluster.spec import ClusterSpec, complaints
from labctl.cluster.up import kindconfig
from labctl.errors import ConfigError, ConfigProblem
from tests.kind_files import KIND_FILES, KindFile, mount, patch, port

HEAD = "apiVersion: labctl.dev/v1\nkind: Cluster\n"


def found(path: Path, text: str) -> tuple[ConfigProblem, ...]:
    """What labctl finds wrong with a file, whose author vouches for it."""
    path.write_text(text)
    try:
        specfile.load(path, allow_raw=True)
    except ConfigError as wrong:
        return wrong.problems
    return ()


@pytest.mark.parametrize("one", KIND_FILES, ids=lambda one: str(one.name))
def test_a_setting_is_judged_as_the_table_says(one: KindFile, tmp_path: Path) -> None:
    problems = found(tmp_path / "f.yaml", one.for_labctl)
    assert bool(problems) == bool(one.labctl), problems
    assert one.labctl in "\n".join(map(str, problems))
    # Line 1 is where a file says what it is: of what a setting is wrong in, the line is known.
    settings = [problem for problem in problems if "kubeProxyMode none" not in problem.message]
    assert all(problem.line > 3 for problem in settings), problems


def test_what_kind_refuses_or_drops_is_never_fine_and_each_stricter_rule_has_its_reason() -> None:
    assert [one.name for one in KIND_FILES if one.kind != "taken" and not one.labctl] == []
    assert [one.name for one in KIND_FILES if one.kind == "taken" and bool(one.labctl) != bool(one.why)] == []
    assert len({one.name for one in KIND_FILES}) == len(KIND_FILES) > 100


@pytest.mark.parametrize(
    ("block", "line", "column"),
    [
        ("featureGates:\n  AllAlpha: 'true'\n", 5, 15),
        ("nodes:\n- extraPortMappings:\n  - containerPort: 80\n    protocol: http\n", 7, 17),
        ("nodes:\n- labels:\n    node-role.kubernetes.io/worker: ''\n", 6, 7),
        ("nodes:\n- role: worker\n", 5, 11),
        ("nodes:\n- extraMounts:\n  - {hostPath: /no/such/path, containerPath: /h}\n", 6, 18),
    ],
)
def test_a_fault_deep_in_the_block_has_its_own_place(
    block: str, line: int, column: int, tmp_path: Path
) -> None:
    body = "".join(f"  {one}\n" for one in block.splitlines())
    [problem] = found(tmp_path / "f.yaml", f"{HEAD}kindConfig:\n{body}")
    assert (problem.line, problem.column) == (line, column)


def test_a_relative_mount_is_relative_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    file = tmp_path / "f.yaml"
    body = HEAD + "kindConfig: {nodes: [{extraMounts: [{hostPath: ./data, containerPath: /d}]}]}\n"
    assert found(file, body) == ()
    spec = specfile.load(Path("../f.yaml"), allow_raw=True)
    assert kindconfig.config(spec)["nodes"][0]["extraMounts"][0]["hostPath"] == str(tmp_path / "data")
    [problem] = found(elsewhere / "f.yaml", body)
    assert "no such path" in problem.message
    assert "relative to the folder of this file" in problem.allowed
    assert list(elsewhere.iterdir()) == [elsewhere / "f.yaml"], "nothing is made to look"


def test_text_in_memory_has_no_relative_paths() -> None:
    body = HEAD + "kindConfig: {nodes: [{extraMounts: [{hostPath: ., containerPath: /d}]}]}\n"
    with pytest.raises(ConfigError) as caught:
        specfile.loads(body.encode(), allow_raw=True)
    assert "relative" in caught.value.problems[0].message


def test_a_path_with_characters_that_no_path_has_is_refused(tmp_path: Path) -> None:
    file = KindFile("", mount(r'hostPath: "/a\0b", containerPath: "/h\n"'))
    messages = [one.message for one in found(tmp_path / "f.yaml", file.for_labctl)]
    assert messages == ["hostPath holds a control character", "containerPath holds a control character"]


def test_a_port_open_to_others_needs_the_user_s_word(tmp_path: Path) -> None:
    for address, fine in (("127.0.0.1", True), ("127.9.9.9", True), ("'::1'", True), ("0.0.0.0", False)):
        file = KindFile("", port(f"containerPort: 80, hostPort: 81, listenAddress: {address}"))
        with contextlib.nullcontext() if fine else pytest.raises(ConfigError, match="1 problem"):
            specfile.loads(file.for_labctl.encode())
        assert found(tmp_path / "f.yaml", file.for_labctl) == ()


def test_each_form_of_every_address_takes_the_port_from_all_others() -> None:
    for address in ("'::'", "0.0.0.0", "'::ffff:127.0.0.1'"):
        text = port("containerPort: 80, hostPort: 81") .replace(
            "}]", f"}}, {{containerPort: 1, hostPort: 81, listenAddress: {address}}}]"
        )  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            specfile.loads(KindFile("", text).for_labctl.encode(), allow_raw=True)
        assert "a second time" in caught.value.problems[0].message


def test_options_that_change_the_number_of_nodes_are_compared_with_kind_s_own_settings() -> None:
    listed = ClusterSpec(workers=1, kind={"nodes": [{"role": "control-plane"}, {"role": "worker"}]})
    assert complaints(listed) == ()
    assert "node 2" in complaints(ClusterSpec(control_planes=3, workers=1, kind=listed.kind))[0]
    assert "1" in complaints(ClusterSpec(workers=0, kind=listed.kind))[0]
    small = ClusterSpec(workers=3, kind={"networking": {"podSubnet": "10.1.0.0/22"}})
    assert complaints(small) == ()
    assert "no /24" in complaints(ClusterSpec(workers=4, kind=small.kind))[0]


# --- what a text within the text may cost


def nested_merges() -> str:
    """Merge keys whose expansion doubles with each line: 641 bytes took 11 seconds and 357 MB."""
    lines = ["kind: ClusterConfiguration", "a0: &a0 {x0: 1, y0: 2}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], x{n}: 1}}" for n in range(1, 22)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (nested_merges(), "anchors are not read"),
        ("kind: ClusterConfiguration\na: {<<: {b: 1}}\n", "merge keys are not read"),
        (f"kind: ClusterConfiguration\na: {'[' * 40}{']' * 40}\n", "nested too deep"),
        ("kind: !!python/name:os.system\n", "tags are not read"),
        ("kind: ClusterConfiguration\nkind: X\n", "a second time"),
    ],
)
def test_the_reader_s_limits_hold_inside_patches(text: str, word: str, tmp_path: Path) -> None:
    started = time.process_time()
    problems = found(tmp_path / "f.yaml", KindFile("", patch(text)).for_labctl)
    assert time.process_time() - started < 1.0
    assert any(word in one.message and "this patch, line" in one.message for one in problems), problems


@pytest.mark.parametrize("key", ["containerdConfigPatches", "containerdConfigPatchesJSON6902"])
@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 20_000,
        "[" * 20_000,
        '{"a":' * 9_000,
        ".".join("a" * 9_000) + " = 1",
        "[" + ".".join("a" * 9_000) + "]",
        "a = 1\n" * 9_000,
        "\\ud800",
        "NaN",
    ],
    ids=str.__len__,
)
def test_no_text_for_containerd_costs_much_or_raises(key: str, text: str, tmp_path: Path) -> None:
    started = time.process_time()
    found(tmp_path / "f.yaml", f"{HEAD}kindConfig: {{{key}: ['{text}']}}\n")
    assert time.process_time() - started < 2.0


def keys(shape: Shape) -> set[str]:
    """Every key that stands anywhere in the type."""
    if isinstance(shape, Struct):
        return set(shape.fields).union(*map(keys, shape.fields.values()))
    return keys(shape.of) if isinstance(shape, (Listed, Mapped)) else set()


WORDS = st.sampled_from(
    ["", "kind", "control-plane", "5", "KubeletConfiguration", "::1", "/", "10.0.0.0/8", "op"]
)
LEAVES = st.none() | st.booleans() | st.integers(-2, 70_000) | WORDS
VALUES = st.recursive(LEAVES, lambda of: st.lists(of, max_size=3) | st.dictionaries(WORDS, of, max_size=3))


def built(shape: Shape) -> st.SearchStrategy[object]:
    """Values of the type, with others strewn in; texts are documents of their own, of any form."""
    right: st.SearchStrategy[object] = WORDS | VALUES.map(json.dumps)
    if isinstance(shape, Struct):
        right = st.fixed_dictionaries({}, optional={key: built(one) for key, one in shape.fields.items()})
    elif isinstance(shape, Listed):
        right = st.lists(built(shape.of), max_size=2)
    elif isinstance(shape, Mapped):
        right = st.dictionaries(WORDS, built(shape.of), max_size=2)
    return st.one_of(right, right, right, VALUES)


PATCH = st.fixed_dictionaries({"kind": WORDS | VALUES}, optional={"apiVersion": VALUES}).map(json.dumps)
OPERATION = st.fixed_dictionaries({}, optional={"op": WORDS | VALUES, "path": VALUES, "value": VALUES})
PATCHED = st.fixed_dictionaries(
    {},
    optional={
        "kubeadmConfigPatches": st.lists(PATCH, max_size=2),
        "containerdConfigPatchesJSON6902": st.lists(
            st.lists(OPERATION, max_size=2).map(json.dumps), max_size=2
        ),
    },
)


@settings(max_examples=200, deadline=None)
@given(built(BLOCK) | PATCHED)
def test_no_value_whatever_raises_anything_but_a_config_error(block: object) -> None:
    text = HEAD + "kindConfig: " + json.dumps(block) + "\n"
    with contextlib.suppress(ConfigError):
        spec = specfile.loads(text.encode(), allow_raw=True)
        assert kindconfig.render(spec)


def test_the_table_speaks_of_every_key_of_kind_s_type() -> None:
    told = "".join(one.block for one in KIND_FILES)
    assert [key for key in sorted(keys(BLOCK)) if key not in told] == []


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "f.yaml"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError) as caught:
        specfile.load(pipe)
    assert "not a plain file" in caught.value.problems[0].message


def test_half_a_pair_of_surrogates_is_refused_and_can_be_told(tmp_path: Path) -> None:
    for text in (r'name: "\ud800"', r'"\ud800": 1', r'kindConfig: {nodes: [{labels: {a: "\ud800"}}]}'):
        problems = found(tmp_path / "f.yaml", f"{HEAD}{text}\n")
        assert "\n".join(map(str, problems)).encode()
