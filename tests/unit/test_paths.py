import errno
import io
import os
from pathlib import Path

import pytest

from chembench import paths
from chembench.appended import append_line
from chembench.errors import ConfigError, DiskFullError


@pytest.mark.parametrize("name", ["quickstart", "a", "2024-01_x.y", "A" * 80])
def test_a_safe_name_is_kept(name):
    assert paths.safe_name("sweep", name) == name


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "../up", "/root", "a b", "A" * 81, "a\n", "ü", "-x"])
def test_a_name_that_could_leave_its_folder_is_refused(name):
    with pytest.raises(ConfigError, match="sweep name must be 1-80 letters"):
        paths.safe_name("sweep", name)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with paths.written_whole(target) as part:
        part.write_text("first")
    with pytest.raises(ZeroDivisionError), paths.written_whole(target) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "first"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_is_built_whole_or_not_at_all(tmp_path):
    target = tmp_path / "shards" / "abc"
    with pytest.raises(ZeroDivisionError), paths.built_whole(target) as part:
        (part / "half").write_text("x")
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == []
    with paths.built_whole(target) as part:
        (part / "whole").write_text("x")
    assert [p.name for p in target.iterdir()] == ["whole"]


def test_the_second_builder_of_one_folder_loses_without_harm(tmp_path):
    target = tmp_path / "abc"
    with paths.built_whole(target) as slow:
        (slow / "who").write_text("slow")
        with paths.built_whole(target) as fast:
            (fast / "who").write_text("fast")
    assert (target / "who").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [target]


def test_json_comes_back_as_it_was_and_nan_is_refused(tmp_path):
    file = tmp_path / "value.json"
    paths.write_json(file, {"b": [1, 2.5, None], "a": "ä"})
    assert paths.read_json(file) == {"b": [1, 2.5, None], "a": "ä"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        paths.write_json(file, float("nan"))
    assert paths.read_json(file)["a"] == "ä"


def test_lines_are_appended(tmp_path):
    file = tmp_path / "curves" / "c.jsonl"
    for epoch in (1, 2):
        append_line(file, {"epoch": epoch})
    assert file.read_text() == '{"epoch": 1}\n{"epoch": 2}\n'


def test_the_environment_names_the_cache_and_the_data(monkeypatch, tmp_path):
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("CHEMBENCH_DATA_DIR", raising=False)
    assert paths.default_cache() == tmp_path
    assert paths.default_data_dir() == tmp_path / "raw"
    monkeypatch.setenv("CHEMBENCH_DATA_DIR", str(tmp_path / "mine"))
    assert paths.default_data_dir() == tmp_path / "mine"
    monkeypatch.delenv("CHEMBENCH_CACHE_DIR")
    assert paths.default_cache() == Path.home() / ".cache" / "chembench"


def test_the_spaces_of_a_checkout_are_found():
    assert paths.spaces_dir() == Path(paths.__file__).resolve().parents[1] / "search_spaces"


def test_the_spaces_of_an_installed_wheel_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "chembench" / "paths.py"))
    assert paths.spaces_dir() == (tmp_path / "site-packages" / "chembench" / "_spaces").resolve()


def test_an_attempt_has_a_folder_of_its_own(tmp_path):
    sweep = paths.SweepPaths(tmp_path)
    assert sweep.run("abc", 2).result.relative_to(tmp_path) == Path("trials", "abc", "2", "result.json")
    assert sweep.run("abc", 1).root != sweep.run("abc", 2).root


def test_what_is_cached_lies_under_its_digest(tmp_path):
    cache = paths.CachePaths(tmp_path)
    places = [cache.corpus("d"), cache.tokenizer("d"), cache.shard("d"), cache.labels("d"), cache.task("d")]
    places += [cache.split("d"), cache.sealed("d"), cache.pretrained("d")]
    assert len(set(places)) == len(places)
    assert all(place.name == "d" and os.path.commonpath([place, tmp_path]) == str(tmp_path) for place in places)


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_or_folder_that_finds_no_space_leaves_nothing_and_says_where(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(DiskFullError, match=r"no space left on the device that holds .*; free some, then give the"):
        paths.write_json(tmp_path / "value.json", {})
    with pytest.raises(DiskFullError, match=f"that holds {tmp_path};"), paths.built_whole(tmp_path / "abc") as part:
        paths.write_json(part / "value.json", {})
    assert list(tmp_path.iterdir()) == []


class Torn(io.StringIO):
    """A file that takes half of what is written."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def write(self, text):
        with self.path.open("a") as file:
            file.write(text[: len(text) // 2])
        no_space()


def test_a_line_is_added_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "lines.jsonl"
    append_line(file, {"a": 1})
    with monkeypatch.context() as patched:
        real = Path.open
        halves = iter([True])
        patched.setattr(Path, "open", lambda path, mode: Torn(path) if next(halves, False) else real(path, mode))
        with pytest.raises(DiskFullError, match="no space left on the device"):
            append_line(file, {"b": 2})
    assert file.read_text() == '{"a": 1}\n'
    append_line(file, {"c": 3})
    assert file.read_text() == '{"a": 1}\n{"c": 3}\n'


def test_a_full_disk_is_seen_behind_the_errors_of_others():
    try:
        try:
            no_space()
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904 - as torch's writer does
    except RuntimeError as wrapped:
        assert paths.is_disk_full(wrapped)
    assert paths.is_disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert paths.is_disk_full(Exception("I/O error: No space left on device (os error 28)"))
    assert not paths.is_disk_full(OSError(errno.EACCES, "Permission denied"))
    assert not paths.is_disk_full(None)


def test_a_working_folder_is_gone_after_the_block(tmp_path):
    with pytest.raises(ZeroDivisionError), paths.working_folder(tmp_path / "deep", "build") as folder:
        (folder / "half").write_text("x")
        assert folder.parent == tmp_path / "deep"
        raise ZeroDivisionError
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_part_tells_which_process_uses_it(tmp_path):
    own = (paths.process_space(), os.getpid())
    assert paths.builder_of(paths.part_beside(tmp_path / "model.pt")) == own
    with paths.built_whole(tmp_path / "abc") as folder, paths.written_whole(tmp_path / "a.txt") as file:
        file.write_text("x")
        assert paths.builder_of(folder) == paths.builder_of(file) == own
    assert len({paths.part_beside(tmp_path / "x") for _ in range(10)}) == 10


@pytest.mark.parametrize("name", [".hidden", "result.json", ".result.json.12", "x.0123abcd.12.0123abcd"])
def test_other_names_tell_of_no_process(name):
    assert paths.builder_of(Path(name)) is None


def test_a_folder_of_one_cache_has_its_name_in_every_cache(tmp_path):
    here, there = paths.CachePaths(tmp_path / "here"), paths.CachePaths(tmp_path / "there")
    for folder in (here.shard, here.pretrained, here.sealed):
        assert there.named(paths.key_of(str(folder("abc")))) == getattr(there, folder.__name__)("abc")
