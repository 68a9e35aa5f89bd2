import hashlib
import http.client
import subprocess
import sys
import threading
import time

import pytest
from web_files import WebFiles, served

from chembench.data import downloads
from chembench.data import web as web_module
from chembench.data.downloads import Address, bring, known_sha256
from chembench.errors import DataError, DiskFullError
from chembench.paths import read_json, write_json

CONTENT = b"".join(b"C" * (n % 40 + 1) + b"\n" for n in range(20_000))
NOW = (0.0,) * 3


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield from served(WebFiles({"/a/corpus.smi": CONTENT, "/a/corpus.smi.md5": md5(CONTENT) + b"  corpus.smi\n"}))


def md5(content: bytes) -> bytes:
    return hashlib.md5(content).hexdigest().encode()


def address_in(web: WebFiles, **fields: str) -> Address:
    return Address(f"{web.url}/a/corpus.smi", **fields)


def ranges(web: WebFiles) -> list[str]:
    return [asked for _, asked in web.asked]


def hidden(file):
    return sorted(path.name for path in file.parent.iterdir() if path.name.startswith(".") and "lock" not in path.name)


def test_a_file_lies_under_its_address_with_a_record(web, tmp_path):
    file = bring(address_in(web), tmp_path)
    assert file == tmp_path / web.url.removeprefix("http://") / "a" / "corpus.smi"
    assert file.read_bytes() == CONTENT
    record = read_json(file.with_name("corpus.smi.json"))
    assert record["url"] == f"{web.url}/a/corpus.smi" and record["version"] == f'"{md5(CONTENT).decode()}"'
    assert known_sha256(address_in(web), tmp_path) == record["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert hidden(file) == []


def test_what_is_here_is_not_asked_for_again(web, tmp_path):
    bring(address_in(web), tmp_path)
    bring(address_in(web), tmp_path)
    assert len(web.asked) == 1


def test_a_download_that_breaks_off_goes_on_where_it_ended(web, tmp_path):
    web.breaks_after = [1000, 0, 30_000]
    file = bring(address_in(web), tmp_path, waits=NOW)
    assert file.read_bytes() == CONTENT
    assert ranges(web) == ["", "bytes=1000-", "bytes=1000-", "bytes=31000-"]


def test_the_next_command_goes_on_where_the_last_one_ended(web, tmp_path):
    web.breaks_after = [5000]
    text = r"corpus.smi cannot be had \(the connection ended early\), 5,000 bytes of it are here; give the same command"
    with pytest.raises(DataError, match=text):
        bring(address_in(web), tmp_path, waits=())
    assert known_sha256(address_in(web), tmp_path) is None
    assert bring(address_in(web), tmp_path, waits=()).read_bytes() == CONTENT
    assert ranges(web) == ["", "bytes=5000-"]


def test_attempts_that_bring_something_are_not_counted_as_vain(web, tmp_path):
    web.breaks_after = [10] * 30
    assert bring(address_in(web), tmp_path, waits=(0.0,)).read_bytes() == CONTENT
    assert len(web.asked) == 31


def test_a_file_that_changed_meanwhile_is_begun_anew(web, tmp_path):
    web.breaks_after = [5000]
    with pytest.raises(DataError, match="ended early"):
        bring(address_in(web), tmp_path, waits=())
    web.files["/a/corpus.smi"] = CONTENT[::-1]
    assert bring(address_in(web), tmp_path, waits=()).read_bytes() == CONTENT[::-1]
    assert ranges(web) == ["", "bytes=5000-"]


@pytest.mark.parametrize("dates", [("", ""), ("Mon, 02 Feb 2026 10:00:00 GMT", "Tue, 03 Feb 2026 10:00:00 GMT")])
def test_the_end_of_another_version_is_not_added_to_the_start_of_this_one(web, tmp_path, dates):
    web.knows_if_range = False
    web.breaks_after, web.dates["/a/corpus.smi"] = [5000], dates[0]
    with pytest.raises(DataError, match="ended early"):
        bring(address_in(web), tmp_path, waits=())
    web.breaks_after, web.dates["/a/corpus.smi"] = [0, 7000], dates[1]
    web.files["/a/corpus.smi"] = CONTENT[::-1]
    assert bring(address_in(web), tmp_path, waits=NOW).read_bytes() == CONTENT[::-1]
    assert ranges(web) == ["", "bytes=5000-", "", "bytes=7000-"]


@pytest.mark.parametrize("lack", ["knows_ranges", "knows_versions"])
def test_a_server_that_cannot_go_on_is_asked_from_the_start(web, tmp_path, lack):
    setattr(web, lack, False)
    web.breaks_after = [5000]
    assert bring(address_in(web), tmp_path, waits=NOW).read_bytes() == CONTENT
    assert ranges(web) == (["", "bytes=5000-"] if lack == "knows_ranges" else ["", ""])


def test_a_part_that_is_whole_already_is_taken(web, tmp_path):
    web.breaks_after = [len(CONTENT) - 1]
    with pytest.raises(DataError, match="ended early"):
        bring(address_in(web), tmp_path, waits=())
    (part,) = tmp_path.rglob(".corpus.smi.part")
    part.write_bytes(CONTENT)
    assert bring(address_in(web), tmp_path, waits=()).read_bytes() == CONTENT
    assert ranges(web)[1:] == [f"bytes={len(CONTENT)}-"]


def test_a_part_that_is_too_long_is_begun_anew(web, tmp_path):
    web.breaks_after = [1000]
    with pytest.raises(DataError, match="ended early"):
        bring(address_in(web), tmp_path, waits=())
    (part,) = tmp_path.rglob(".corpus.smi.part")
    part.write_bytes(CONTENT + b"C\n")
    assert bring(address_in(web), tmp_path, waits=NOW).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(web, tmp_path):
    web.statuses = [503, 429]
    assert bring(address_in(web), tmp_path, waits=NOW).read_bytes() == CONTENT
    web.statuses = [503] * 3
    with pytest.raises(DataError, match=r"cannot be had \(HTTP 503 Service Unavailable\), 0 bytes"):
        bring(Address(f"{web.url}/b.smi"), tmp_path, waits=NOW[:2])


def test_a_file_that_is_not_there_is_told_at_once(web, tmp_path):
    with pytest.raises(DataError, match=r"no file at http://.*/none.smi \(HTTP 404 Not Found\); correct the address"):
        bring(Address(f"{web.url}/none.smi"), tmp_path)
    assert len(web.asked) == 1


def test_a_server_that_is_away_is_told(tmp_path):
    with pytest.raises(DataError, match=r"http://127.0.0.1:9/a.smi cannot be had \(.*refused.*\)"):
        bring(Address("http://127.0.0.1:9/a.smi"), tmp_path, waits=(0.0,))


def test_a_network_that_goes_away_meanwhile_is_waited_for(web, tmp_path, monkeypatch):
    read, faults = http.client.HTTPResponse.read, [OSError(113, "No route to host"), http.client.IncompleteRead(b"")]
    monkeypatch.setattr(web_module, "_BLOCK", 5000)

    def broken(response, amount):
        if faults and response.reads:
            raise faults.pop()
        response.reads = 1
        return read(response, amount)

    monkeypatch.setattr(http.client.HTTPResponse, "reads", 0, raising=False)
    monkeypatch.setattr(http.client.HTTPResponse, "read", broken)
    assert bring(address_in(web), tmp_path, waits=NOW).read_bytes() == CONTENT
    assert ranges(web) == ["", "bytes=5000-", "bytes=10000-"]


def no_waits(monkeypatch):
    monkeypatch.setattr(web_module.time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))


def test_a_part_that_cannot_be_used_is_told_at_once(web, tmp_path, monkeypatch):
    no_waits(monkeypatch)
    address_in(web).file(tmp_path).with_name(".corpus.smi.part").mkdir(parents=True)
    with pytest.raises(
        DataError, match=rf"downloads lie in {tmp_path}, which cannot be written \(.*corpus.smi.part'\)"
    ):
        bring(address_in(web), tmp_path)
    assert len(web.asked) == 1


@pytest.mark.parametrize("name", ["/a/my corpus.smi", "/a/cörpus.smi"])
def test_what_is_no_address_is_told_at_once(web, tmp_path, monkeypatch, name):
    no_waits(monkeypatch)
    with pytest.raises(DataError, match=rf"'{web.url}{name}' is no address of the web \(.*\); correct it, a blank is"):
        bring(Address(f"{web.url}{name}"), tmp_path)


def test_a_web_page_is_no_corpus(web, tmp_path):
    web.kind = "text/html; charset=utf-8"
    with pytest.raises(DataError, match="answers with a web page where a file of molecules is due"):
        bring(address_in(web), tmp_path)


def test_an_address_without_a_file_name_is_refused(tmp_path):
    with pytest.raises(DataError, match="an address ends in the name of a file, 'http://host/' does not"):
        bring(Address("http://host/"), tmp_path)


def test_no_address_leaves_the_folder(tmp_path):
    file = Address("http://host/a/%2e%2e/../../b.smi?token=1").file(tmp_path)
    assert file.parent == tmp_path / "host" / "a" and file.name.endswith("-b.smi")
    assert file != Address("http://host/a/b.smi?token=2").file(tmp_path)
    assert Address("http://me:secret@host/b.smi").file(tmp_path) == tmp_path / "host" / "b.smi"


def test_the_published_checksum_is_asked_for_and_kept(web, tmp_path):
    file = bring(address_in(web, md5_url=f"{web.url}/a/corpus.smi.md5"), tmp_path)
    assert read_json(file.with_name("corpus.smi.json"))["md5"].encode() == md5(CONTENT)


def test_another_checksum_than_the_published_one_deletes_what_came(web, tmp_path):
    web.files["/a/corpus.smi"] = CONTENT.replace(b"C", b"N", 1)
    text = (
        rf"must have the MD5 {md5(CONTENT).decode()} that its publisher names, what came has \w{{32}} and was deleted"
    )
    with pytest.raises(DataError, match=text):
        bring(address_in(web, md5_url=f"{web.url}/a/corpus.smi.md5"), tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name.endswith((".part", ".smi"))] == []
    web.files["/a/corpus.smi"] = CONTENT
    assert bring(address_in(web, md5_url=f"{web.url}/a/corpus.smi.md5"), tmp_path).read_bytes() == CONTENT


def test_a_file_of_checksums_without_one_is_told(web, tmp_path):
    web.files["/a/corpus.smi.md5"] = b"soon"
    with pytest.raises(DataError, match=r"corpus.smi.md5 must begin with an MD5, it begins with 'soon'; try again"):
        bring(address_in(web, md5_url=f"{web.url}/a/corpus.smi.md5"), tmp_path)


def test_a_checksum_in_the_address_is_held_against_the_file(web, tmp_path):
    right, wrong = hashlib.sha256(CONTENT).hexdigest(), "0" * 64
    assert bring(address_in(web, sha256=right), tmp_path).read_bytes() == CONTENT
    with pytest.raises(DataError, match=rf"must have the SHA-256 {wrong} that its address names, it has {right}"):
        bring(address_in(web, sha256=wrong), tmp_path)


def test_a_file_put_there_by_hand_is_taken(web, tmp_path):
    file = address_in(web).file(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"CCO\n")
    assert bring(address_in(web, md5_url=f"{web.url}/a/corpus.smi.md5"), tmp_path) == file
    assert known_sha256(address_in(web), tmp_path) == hashlib.sha256(b"CCO\n").hexdigest()
    assert web.asked == []


def test_a_file_that_was_replaced_is_summed_again_and_one_that_was_deleted_is_known(web, tmp_path):
    file = bring(address_in(web), tmp_path)
    file.write_bytes(b"CCO\n")
    assert known_sha256(address_in(web), tmp_path) is None
    bring(address_in(web), tmp_path)
    file.unlink()
    assert known_sha256(address_in(web), tmp_path) == hashlib.sha256(b"CCO\n").hexdigest()
    assert len(web.asked) == 1


def test_progress_is_told_by_size(web, tmp_path, monkeypatch):
    monkeypatch.setattr(web_module, "_TELL_BYTES", 100_000)
    monkeypatch.setattr(web_module, "_BLOCK", 50_000)
    told = []
    bring(address_in(web), tmp_path, told.append)
    assert told[0] == f"download: {web.url}/a/corpus.smi"
    assert told[1:] == ["download: 0 of 0 MB of corpus.smi"] * (len(CONTENT) // 100_000)


def test_a_full_disk_is_not_tried_again(web, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(web_module, "_copy", full)
    with pytest.raises(DiskFullError, match=f"no space left on the device that holds {tmp_path}"):
        bring(address_in(web), tmp_path, waits=NOW)
    assert len(web.asked) == 1


def test_two_at_once_download_it_once(web, tmp_path):
    told, files = [], []
    with downloads._alone(address_in(web).file(tmp_path), told.append):
        threads = [
            threading.Thread(target=lambda: files.append(bring(address_in(web), tmp_path, told.append)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        while len(told) < len(threads):
            time.sleep(0.01)
        assert web.asked == []
    for thread in threads:
        thread.join()
    waited = "download: another process brings corpus.smi, waiting for it"
    assert told == [waited, waited, f"download: {web.url}/a/corpus.smi"]
    assert len(web.asked) == 1 and len(files) == 2


def test_a_mark_without_its_part_is_no_reason_to_go_on(web, tmp_path):
    file = address_in(web).file(tmp_path)
    write_json(file.with_name(".corpus.smi.part.json"), {"version": '"x"'})
    assert bring(address_in(web), tmp_path).read_bytes() == CONTENT
    assert ranges(web) == [""]


def test_what_is_here_is_found_without_http():
    code = "import sys, chembench.data.corpora; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"http.client", "urllib.request", "ssl", "fsspec", "pyarrow", "rdkit"} & set(loaded)


def test_a_folder_that_cannot_be_written_is_told(web, tmp_path):
    (tmp_path / "raw").write_text("a file where a folder is due")
    with pytest.raises(DataError, match=f"downloads lie in {tmp_path}/raw, which cannot be written .*; choose another"):
        bring(address_in(web), tmp_path / "raw")


def test_what_is_here_is_read_from_a_folder_that_cannot_be_written(web, tmp_path, monkeypatch):
    file = bring(address_in(web), tmp_path)
    monkeypatch.setattr(downloads, "_alone", lambda *_: pytest.fail("it would write"))
    assert bring(address_in(web), tmp_path) == file
