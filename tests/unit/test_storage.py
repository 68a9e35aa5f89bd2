"""Folders behind a URL are whole or not there, over each kind of file system that can be had on this machine."""

import json
import re
import secrets
import threading
from pathlib import Path

import fsspec
import pytest

from chembench.errors import ConfigError, DiskFullError, StorageError
from chembench.storage import MARKER, Storage


@pytest.fixture(scope="module")
def s3():
    """An S3 server of this process; the packages are no dependency of ours."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("kept")
        yield f"s3://kept/{secrets.token_hex(4)}"
        server.stop()


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def url(request, tmp_path):
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{secrets.token_hex(4)}"
    return {
        "folder": str(tmp_path / "kept"),
        "file": f"file://{tmp_path}/kept",
        "memory": f"memory://{secrets.token_hex(4)}",
    }[request.param]


@pytest.fixture
def storage(url):
    return Storage(url)


def filled(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


class Around:
    """A file system that hands its calls on, and passes for the one inside."""

    def __init__(self, system) -> None:
        self._system = system

    @property
    def __class__(self):
        return type(self._system)

    def __getattr__(self, name):
        return getattr(self._system, name)


class Broken(Around):
    """Fails from its n-th call of one kind on."""

    def __init__(self, system, call: str, after: int, error: Exception) -> None:
        super().__init__(system)
        self._call, self._left, self._error = call, after, error

    def __getattr__(self, name):
        if name == self._call:
            if self._left == 0:
                raise self._error
            self._left -= 1
        return getattr(self._system, name)


def breaking(storage: Storage, call: str, after: int = 0, error: Exception | None = None) -> Storage:
    """Another view of the same storage, whose file system breaks."""
    broken = Storage(storage.url)
    broken._system = Broken(broken._system, call, after, error or PermissionError("no right to do so"))
    return broken


# ---------------------------------------------------------------------------------------------- what comes back


def test_a_folder_comes_back_as_it_was(storage, tmp_path):
    there = filled(tmp_path / "there", a="1", sub__deep__b="22", empty="")
    storage.push_folder(there, "shards/abc")
    storage.pull_folder("shards/abc", tmp_path / "here")
    assert content(tmp_path / "here") == {"a": "1", "sub/deep/b": "22", "empty": ""}


def test_what_is_whole_is_not_sent_again(storage, tmp_path):
    storage.push_folder(filled(tmp_path / "first", a="first"), "shards/abc")
    storage.push_folder(filled(tmp_path / "second", a="second"), "shards/abc")
    storage.pull_folder("shards/abc", tmp_path / "here")
    assert content(tmp_path / "here") == {"a": "first"}


def test_a_folder_that_is_here_is_not_pulled_again(storage, tmp_path):
    here = filled(tmp_path / "here", a="mine")
    storage.pull_folder("never/pushed", here)
    assert content(here) == {"a": "mine"}


def test_hidden_files_and_those_left_out_stay(storage, tmp_path):
    there = filled(tmp_path / "there", a="1", stop="", sub__stop="2")
    filled(there, **{".part": "x", ".dir__y": "x"})
    storage.push_folder(there, "k", leave_out=("stop",))
    storage.pull_folder("k", tmp_path / "here")
    assert content(tmp_path / "here") == {"a": "1", "sub/stop": "2"}


def test_a_file_is_replaced_by_the_last_one_sent(storage, tmp_path):
    file, here = tmp_path / "resume.pt", tmp_path / "here" / "resume.pt"
    for text in ("first", "the second"):
        file.write_text(text)
        storage.push_file(file, "k/resume")
        storage.pull_file("k/resume", here)
        assert here.read_text() == text
    assert [path.name for path in here.parent.iterdir()] == ["resume.pt"]


def test_only_the_last_push_of_a_file_takes_space(tmp_path):
    storage, file = Storage(str(tmp_path / "kept")), tmp_path / "resume.pt"
    for text in ("first", "second", "third"):
        file.write_text(text)
        storage.push_file(file, "k")
    left = content(tmp_path / "kept" / "k")
    left.pop(MARKER)
    assert list(left.values()) == ["third"]


def test_what_was_removed_is_gone_and_may_be_removed_twice(storage, tmp_path):
    storage.push_folder(filled(tmp_path / "there", a="1"), "k")
    assert storage.has("k")
    storage.remove("k")
    storage.remove("k")
    assert not storage.has("k")
    storage.push_folder(filled(tmp_path / "other", b="2"), "k")
    storage.pull_folder("k", tmp_path / "here")
    assert content(tmp_path / "here") == {"b": "2"}


def test_what_another_machine_pushed_is_seen_at_once(url, tmp_path):
    one, other = Storage(url), Storage(url)
    assert not one.has("k") and not other.has("k")
    other.push_folder(filled(tmp_path / "there", a="1"), "k")
    assert one.has("k")
    other.remove("k")
    assert not one.has("k")


def test_a_check_leaves_nothing_behind(storage, tmp_path):
    storage.check()
    storage.check()
    storage.push_folder(filled(tmp_path / "there", a="1"), "k")
    names = storage._system.ls(storage._root, detail=False)
    assert [Path(name).name for name in names] == ["k"]


# ------------------------------------------------------------------------------------------------ never by halves


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_push_that_broke_off_is_not_there_and_can_be_repeated(storage, tmp_path, after):
    there = filled(tmp_path / "there", a="1", b="2", c="3")
    with pytest.raises(StorageError, match=r"storage '.*' cannot be written: no right to do so"):
        breaking(storage, "put_file", after).push_folder(there, "k")
    assert not storage.has("k")
    with pytest.raises(StorageError, match="must hold k, it does not; give the sweep's command again"):
        storage.pull_folder("k", tmp_path / "here")
    assert not (tmp_path / "here").exists()
    storage.push_folder(there, "k")
    storage.pull_folder("k", tmp_path / "here")
    assert content(tmp_path / "here") == {"a": "1", "b": "2", "c": "3"}


def test_a_replacement_that_broke_off_leaves_what_was_there(storage, tmp_path):
    file = tmp_path / "resume.pt"
    file.write_text("old")
    storage.push_file(file, "k")
    file.write_text("new and longer")
    with pytest.raises(StorageError, match="cannot be written"):
        breaking(storage, "put_file").push_file(file, "k")
    storage.pull_file("k", tmp_path / "here")
    assert (tmp_path / "here").read_text() == "old"


def test_a_pull_that_broke_off_leaves_nothing(storage, tmp_path):
    storage.push_folder(filled(tmp_path / "there", a="1", b="2"), "k")
    with pytest.raises(StorageError, match="cannot be read: no right to do so"):
        breaking(storage, "get_file", 1).pull_folder("k", tmp_path / "deep" / "here")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_marker_that_is_not_written_to_its_end_is_none(tmp_path):
    storage = Storage(str(tmp_path / "kept"))
    storage.push_folder(filled(tmp_path / "there", a="1"), "k")
    marker = tmp_path / "kept" / "k" / MARKER
    marker.write_bytes(marker.read_bytes()[:-1])
    assert not storage.has("k")


def test_a_file_of_another_size_is_refused(tmp_path):
    storage = Storage(str(tmp_path / "kept"))
    storage.push_folder(filled(tmp_path / "there", a="1234"), "k")
    (file,) = (tmp_path / "kept" / "k").glob("*/a")
    file.write_text("12")
    with pytest.raises(StorageError, match="must give 4 bytes of k/a, it gives 2; remove k there"):
        storage.pull_folder("k", tmp_path / "here")
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    storage = Storage(str(tmp_path / "kept"))
    storage.push_folder(filled(tmp_path / "there", a="1"), "k")
    marker = tmp_path / "kept" / "k" / MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"files": {name: 1}}))
    with pytest.raises(StorageError, match="must name files inside k, got"):
        storage.pull_folder("k", tmp_path / "here")
    assert not (tmp_path / "outside").exists()


def test_a_foreign_file_in_place_of_a_marker_is_told(tmp_path):
    filled(tmp_path / "kept" / "k", **{"whole.json": "[1]"})
    with pytest.raises(StorageError, match=r"must hold what chembench wrote, k/whole\.json is not; remove it"):
        Storage(str(tmp_path / "kept")).has("k")


class Replacing(Around):
    """A file is replaced under its hands, as often as told, whenever it is about to be read."""

    def __init__(self, storage: Storage, file: Path, times: int) -> None:
        super().__init__(storage._system)
        self._file, self._times = file, times
        self._other = Storage(storage.url)

    def get_file(self, place, local):
        if self._times:
            self._times -= 1
            self._file.write_text(f"{self._times} left")
            self._other.push_file(self._file, "k")
        self._system.get_file(place, local)


def replaced(tmp_path, times: int) -> Storage:
    storage, file = Storage(str(tmp_path / "kept")), tmp_path / "resume.pt"
    file.write_text("first")
    storage.push_file(file, "k")
    storage._system = Replacing(storage, file, times)
    return storage


def test_a_file_that_is_replaced_while_it_is_pulled_comes_whole(tmp_path):
    replaced(tmp_path, 3).pull_file("k", tmp_path / "here")
    assert (tmp_path / "here").read_text() == "0 left"


def test_a_file_that_is_replaced_all_the_time_is_told(tmp_path):
    with pytest.raises(StorageError, match="replaces k all the time; try again later"):
        replaced(tmp_path, -1).pull_file("k", tmp_path / "here")


class Rewriting(Around):
    """Is given a file that changes, as often as told, while it is sent."""

    def __init__(self, system, times: int) -> None:
        super().__init__(system)
        self._times = times

    def put_file(self, local, place):
        self._system.put_file(local, place)
        if self._times:
            self._times -= 1
            Path(local).write_text(f"state {'!' * self._times}")


def test_a_file_that_changes_while_it_is_sent_is_sent_as_it_became(tmp_path):
    storage, file = Storage(str(tmp_path / "kept")), tmp_path / "resume.pt"
    filled(tmp_path / "kept" / "k", **{"x": ""})
    file.write_text("state of old")
    storage._system = Rewriting(storage._system, 2)
    storage.push_file(file, "k/resume")
    storage.pull_file("k/resume", tmp_path / "here")
    assert (tmp_path / "here").read_text() == file.read_text() == "state "


def test_a_file_that_changes_all_the_time_is_told(tmp_path):
    storage, file = Storage(str(tmp_path / "kept")), tmp_path / "resume.pt"
    file.write_text("state of old")
    storage._system = Rewriting(storage._system, 1000)
    with pytest.raises(StorageError, match=r"cannot be sent .*resume\.pt, it changes all the time"):
        storage.push_file(file, "k")
    assert not storage.has("k")


def test_two_machines_that_push_one_folder_leave_a_whole_one(storage, tmp_path):
    folders = [filled(tmp_path / str(n), a=str(n), b=str(n)) for n in range(4)]
    threads = [threading.Thread(target=Storage(storage.url).push_folder, args=(folder, "k")) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    storage.pull_folder("k", tmp_path / "here")
    found = content(tmp_path / "here")
    assert found["a"] == found["b"]


def test_no_space_there_is_told_as_a_full_disk(storage, tmp_path):
    error = OSError(28, "No space left on device")
    with pytest.raises(DiskFullError, match="no space is left at storage"):
        breaking(storage, "put_file", error=error).push_folder(filled(tmp_path / "there", a="1"), "k")


def test_no_space_here_is_told_as_a_full_disk(storage, tmp_path):
    storage.push_folder(filled(tmp_path / "there", a="1"), "k")
    error = OSError(28, "No space left on device")
    with pytest.raises(DiskFullError, match="no space left on the device that holds"):
        breaking(storage, "get_file", error=error).pull_folder("k", tmp_path / "here")
    assert not (tmp_path / "here").exists()


# --------------------------------------------------------------------------------------- told before any work


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ConfigError, match=r"storage 'nope://x' must be a URL that fsspec knows .* such as s3://bucket"):
        Storage("nope://x")


def test_a_missing_package_is_named(monkeypatch):
    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(
        ConfigError, match=r"storage 's3://b/k' needs a package .*Install s3fs to access S3.*install it"
    ):
        Storage("s3://b/k")


def test_a_host_that_does_not_answer_is_told(monkeypatch):
    def silent(url):
        raise OSError("timed out")

    monkeypatch.setattr(fsspec.core, "url_to_fs", silent)
    with pytest.raises(ConfigError, match=r"storage 'sftp://h/x' cannot be reached \(timed out\); correct --storage"):
        Storage("sftp://h/x")


def test_a_password_in_the_url_is_refused_and_not_shown():
    with pytest.raises(ConfigError, match="this one holds a password; leave it out") as told:
        Storage("sftp://me:secret@host/x")
    assert "secret" not in str(told.value)


def test_a_place_that_cannot_be_written_is_told(storage):
    with pytest.raises(ConfigError, match="no right to do so; correct --storage, or the credentials"):
        breaking(storage, "cat_file").check()


def test_a_folder_inside_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"storage 'file://.*' cannot be written and read: .*; correct --storage"):
        Storage(str(tmp_path / "file" / "kept")).check()


def test_a_place_that_forgets_nothing_is_told(storage, monkeypatch):
    monkeypatch.setattr(storage, "_drop", lambda name: None)
    with pytest.raises(ConfigError, match="must give back what was written and forget what was removed, it does not"):
        storage.check()


def test_a_bucket_that_is_not_there_is_told_and_not_made(s3):
    with pytest.raises(ConfigError, match=r"storage 's3://missing/x' must lie in a bucket that exists"):
        Storage("s3://missing/x").check()
    assert not fsspec.filesystem("s3", skip_instance_cache=True).exists("missing")


def test_wrong_credentials_are_told(s3, monkeypatch):
    storage = Storage(s3)
    with pytest.raises(ConfigError, match="cannot be written and read: Forbidden; correct --storage, or the credent"):
        breaking(storage, "exists", error=PermissionError("Forbidden")).check()


@pytest.mark.parametrize("url", ["", ".", "kept", "../kept", "file://", "file://kept", "local://kept", "s3://"])
def test_no_place_and_one_that_is_another_elsewhere_are_refused(url):
    told = rf"must be a URL such as s3://bucket/folder or an absolute path such as /.*, got '{re.escape(url)}'; correct"
    with pytest.raises(ConfigError, match=told):
        Storage(url)


def test_a_folder_is_one_place_as_a_path_and_as_a_url(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Storage("~/kept").url == Storage(f"{tmp_path}/kept").url == Storage(f"file://{tmp_path}/kept/").url


@pytest.mark.parametrize("place", ["sweeps", ".", "sweeps/one", "cache/pretrained", "link"])
def test_a_storage_shares_no_folder_with_sweeps_and_caches(tmp_path, place):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "sweeps")
    folders = [tmp_path / "sweeps", tmp_path / "cache"]
    with pytest.raises(ConfigError, match=r"must lie apart from sweeps and caches, it shares /.* a folder of its own"):
        Storage(str(tmp_path / place)).require_apart(folders)
    Storage(str(tmp_path / "between")).require_apart(folders)
    Storage("memory://sweeps").require_apart(folders)
