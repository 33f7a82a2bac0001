from __future__ import annotations

from pathlib import Path

import pytest

from labctl import paths
from labctl.errors import ConfigError, UsageError
from labctl.lab.engine import loader
from labctl.lab.engine.suite import load_all

GOOD = '''"""Volumes: what outlives a pod.

A story.
Of two lines.
"""
from labctl.lab import Cluster, Lab

lab = Lab(term="볼륨")


@lab.check("it is so")
def so(k8s: Cluster) -> None: ...
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    labs = tmp_path / "labs"
    labs.mkdir()
    (labs / "11_volume.py").write_text(GOOD)
    (labs / "README.md").write_text("no lab")
    (labs / "helper.py").write_text("no lab either")
    return labs


def write(folder: Path, text: str, name: str = "12_broken.py") -> loader.LabFile:
    (folder / name).write_text(text)
    return next(one for one in loader.discover(folder) if one.path.name == name)


def test_a_file_tells_who_it_is_without_being_run(folder: Path) -> None:
    write(folder, '"""Runs nothing."""\nraise SystemExit("run")\n')
    volume, broken = loader.discover(folder)
    assert (volume.number, volume.slug, volume.name, volume.term) == (11, "volume", "11-volume", "볼륨")
    assert volume.title == "Volumes: what outlives a pod"
    assert volume.story == "A story.\nOf two lines."
    assert broken.title == "Runs nothing"


def test_a_lab_is_loaded_and_leaves_no_compiled_file(folder: Path) -> None:
    (file,) = loader.discover(folder)
    assert loader.load(file).term == "볼륨"
    assert {one.name for one in folder.iterdir()} == {"11_volume.py", "README.md", "helper.py"}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = 1\ndef f(:\n", 2, "not Python"),
        ('"""T."""\nimport nonexistent_thing\n', 2, "No module named"),
        ('"""T."""\n\nx = 1 / 0\n', 3, "ZeroDivisionError"),
        ('"""T."""\nraise SystemExit(3)\n', 2, "SystemExit"),
        ('"""T."""\nx = 1\n', 1, "defines no `lab"),
        (GOOD.replace('"it is so"', '"never", consistently=3'), 11, "it needs control="),
        (GOOD.replace('term="볼륨"', "needs=['magic']"), 8, "unknown need 'magic'"),
        (GOOD.split("@lab.check")[0], 1, "nothing to verify"),
        (GOOD.replace("import Cluster, Lab", "import Cluster, Lab, Nonsense"), 6, "Nonsense"),
    ],
)
def test_a_broken_lab_names_file_and_line(folder: Path, text: str, line: int, said: str) -> None:
    file = write(folder, text)
    with pytest.raises(ConfigError) as wrong:
        loader.load(file)
    (problem,) = wrong.value.problems
    assert (problem.file, problem.line) == (str(file.path), line)
    assert said in problem.message
    assert wrong.value.exit_code == 2


def test_every_broken_lab_is_reported_at_once(folder: Path) -> None:
    write(folder, "1 / 0\n", "12_a.py")
    write(folder, "(", "13_b.py")
    with pytest.raises(ConfigError) as wrong:
        load_all(loader.discover(folder))
    assert {Path(one.file).name for one in wrong.value.problems} == {"12_a.py", "13_b.py"}


def test_two_labs_of_one_number_are_refused(folder: Path) -> None:
    (folder / "11_other.py").write_text(GOOD)
    with pytest.raises(ConfigError) as wrong:
        loader.discover(folder)
    assert "11_other.py" in str(wrong.value.problems[0])


def labs(*names: str) -> tuple[loader.LabFile, ...]:
    return tuple(loader.LabFile(int(name[:2]), name[3:], Path(name)) for name in names)


KNOWN = labs("09-pod", "10-namespace", "11-volume", "15-external-name")


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["9"], [9]),
        (["09"], [9]),
        (["9-11"], [9, 10, 11]),
        (["10-99"], [10, 11, 15]),
        (["volume"], [11]),
        (["11-volume"], [11]),
        (["external-name,9"], [15, 9]),
        (["11", "9-11"], [11, 9, 10]),
    ],
)
def test_labs_are_named_by_number_range_slug_and_list(words: list[str], numbers: list[int]) -> None:
    assert [one.number for one in loader.select(KNOWN, words)] == numbers


@pytest.mark.parametrize("words", [["8"], ["nonsense"], ["1-8"], ["9,nonsense"], [], [","], ["²"]])
def test_a_word_that_names_no_lab_is_an_error(words: list[str]) -> None:
    with pytest.raises(UsageError):
        loader.select(KNOWN, words)


@pytest.mark.parametrize("word", ["9\u201311", "9\u201411", "9\u221211", "9\u201011"])
def test_a_range_may_be_written_with_any_dash(word: str) -> None:
    assert loader.select(KNOWN, [word]) == loader.select(KNOWN, ["9-11"])


@pytest.mark.parametrize(
    "form", ["{0.number:02d}_{0.slug}", "{0.number:02d}_{0.slug}.py", "{0.number}-{0.slug}"]
)
def test_a_lab_may_be_called_as_its_file_is(form: str) -> None:
    assert all(loader.select(KNOWN, [form.format(one)]) == (one,) for one in KNOWN)


def test_a_range_that_counts_down_says_how_to_write_it() -> None:
    with pytest.raises(UsageError) as caught:
        loader.select(KNOWN, ["15-9"])
    assert caught.value.next_step == "write 9-15"


def test_all_is_all_and_goes_with_no_word() -> None:
    assert loader.select(KNOWN, [], everything=True) == KNOWN
    with pytest.raises(UsageError):
        loader.select(KNOWN, ["9"], everything=True)


def test_labs_are_found_upward_then_in_what_ships(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = folder.parent / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert loader.find_folder() == folder
    (folder / "11_volume.py").unlink()  # a folder that is merely called labs
    assert loader.find_folder() == paths.shipped("labs")


def test_a_named_folder_without_labs_is_an_error(tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError):
            loader.find_folder(wrong)


def test_a_translation_lies_beside_the_lab(folder: Path) -> None:
    (file,) = loader.discover(folder)
    assert loader.translated(file, "ko") == (file.title, file.story)
    (folder / "11_volume.ko.md").write_text("# 볼륨\n\n이야기.\n", encoding="utf-8")
    assert loader.translated(file, "ko") == ("볼륨", "이야기.")
