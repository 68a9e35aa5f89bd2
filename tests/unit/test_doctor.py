import errno
import fcntl
import re
import sys
from importlib import metadata

import pytest
from kept_sweeps import SPACE, begun, carried_out
from sweep_fakes import engine_on, paths_in

from chembench import doctor, upkeep
from chembench.config import release_of


def test_a_requirement_that_fits_is_ok():
    check = doctor._check_requirement("click>=8.2")
    assert check.state == "ok"
    assert check.found == f"click {metadata.version('click')}"


def test_an_extra_in_brackets_is_read():
    assert doctor._check_requirement("pydantic[email]>=2.0").state == "ok"


def test_an_old_version_fails_with_the_way_out():
    check = doctor._check_requirement("click>=99.1")
    assert (check.state, check.way_out) == ("fail", "run make install")
    assert re.fullmatch(r"click [\d.]+ is older than 99\.1", check.found)


def test_a_missing_package_fails_with_the_way_out():
    check = doctor._check_requirement("no-such-package-here>=1.0")
    assert check == doctor.Check(
        "no-such-package-here", "fail", "no-such-package-here is missing, 1.0 or newer is needed", "run make install"
    )


def test_a_package_without_a_release_for_this_python_is_a_warning(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    check = doctor._check_requirement('deepchem>=2.8; python_version < "3.12"')
    assert check.state == "warn"
    assert "need Python 3.11" in check.way_out


def test_requirements_of_an_extra_are_left_out():
    assert doctor._check_requirement('pytest>=9; extra == "dev"') is None


def test_a_requirement_in_another_form_is_a_bug():
    with pytest.raises(ValueError, match="requirements are read as 'name>=version', got 'click~=8'"):
        doctor._check_requirement("click~=8")


def test_versions_are_compared_by_number():
    assert release_of("2.13.0+cpu") == (2, 13, 0)
    assert release_of("10.0") > release_of("9.9")
    assert release_of("not installed") == ()


def test_a_package_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr(doctor, "DISTRIBUTION", "no-such-package-here")
    (check,) = doctor.check_packages()
    assert (check.state, check.way_out) == ("fail", "run make install")


def test_a_cache_that_can_be_written_is_ok_and_left_as_it_was(tmp_path):
    check = doctor.check_cache(tmp_path / "not" / "yet")
    assert check.state in ("ok", "warn")
    assert "GiB free" in check.found
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_fails(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    check = doctor.check_cache(file)
    assert check.state == "fail"
    assert "--cache-dir" in check.way_out


def test_a_full_disk_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_DISK_GB", 1e9)
    assert doctor.check_cache(tmp_path).state == "warn"


def test_little_memory_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "_available_memory", lambda: doctor.GIB)
    assert doctor.check_memory() == doctor.Check(
        "memory", "warn", "1.0 GiB available", "sweeps want 4 GiB; use --max-concurrent 1"
    )


def test_a_container_with_less_than_its_machine_is_a_warning(monkeypatch):
    monkeypatch.setattr(doctor, "_cgroup_processors", lambda: 0.5)
    check = doctor.check_processors()
    assert check.state == "warn"
    assert "this container may use 0.5" in check.found


def test_the_raw_files_that_are_here_are_named(tmp_path):
    (tmp_path / "delaney-processed.csv").write_text("x")
    check = doctor.check_data(tmp_path)
    assert check.state == "warn"
    assert check.found == f"{tmp_path}: raw files of delaney"
    assert "DeepChem downloads" in check.way_out and "lipo" in check.way_out


def test_a_sweep_that_is_not_there_fails(tmp_path):
    (check,) = doctor.check_sweep("nowhere", tmp_path)
    assert check.state == "fail"
    assert "nowhere" in check.found


@pytest.fixture
def torn(tmp_path):
    """A sweep whose driver was killed while it wrote, in the middle of an item."""
    with begun(tmp_path) as ledger:
        engine = engine_on(SPACE, ledger)
        engine.tell(carried_out(engine.ask()))
        engine.ask()
    paths = paths_in(tmp_path)
    with paths.ledger.open("ab") as file:
        file.write(b"torn")
    return paths


def test_each_finding_of_a_sweep_is_a_line_with_its_way_out(torn):
    before = torn.ledger.read_bytes()
    first, *checks = doctor.check_sweep(str(torn.root), torn.root.parent)
    assert (first.name, first.state) == ("sweep", "ok")
    assert [(check.name, check.state) for check in checks] == [
        ("ledger", "warn"), ("items", "warn"), ("journal", "warn"), ("mlflow", "warn"),
    ]  # fmt: skip
    assert checks[0].found.endswith(f"({torn.ledger})")
    assert checks[0].way_out.startswith("--fix: cut off; ")
    assert checks[1].way_out == f"handed out again by the next start: chembench resume {torn.root}"
    assert torn.ledger.read_bytes() == before


def test_with_fix_each_thing_that_was_mended_is_said(torn):
    checks = doctor.check_sweep(torn.root.name, torn.root.parent, fix=True)
    assert [(check.name, check.state) for check in checks] == [
        ("sweep", "ok"), ("ledger", "mended"), ("items", "warn"), ("journal", "mended"), ("mlflow", "mended"),
    ]  # fmt: skip
    assert checks[1].found.endswith("was cut back to its last whole line")
    assert checks[4].found.endswith("everything is sent")
    assert doctor.summary(checks) == "1 ok, 3 mended, 1 warn, 0 fail"
    assert [check.name for check in doctor.check_sweep(str(torn.root), torn.root.parent)] == ["sweep", "items"]


def test_with_fix_nothing_is_mended_while_a_driver_works(torn):
    with torn.lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        checks = doctor.check_sweep(str(torn.root), torn.root.parent, fix=True)
    assert [(check.name, check.state) for check in checks] == [("sweep", "ok"), ("lock", "ok")]
    assert checks[1].way_out == "nothing is mended meanwhile"


def test_what_cannot_be_mended_is_told_beside_what_was_found(torn, monkeypatch):
    def read_only(paths, findings):
        raise OSError(errno.EROFS, "Read-only file system", str(paths.ledger))

    monkeypatch.setattr(upkeep, "mend", read_only)
    checks = doctor.check_sweep(str(torn.root), torn.root.parent, fix=True)
    assert [(check.name, check.state) for check in checks] == [
        ("sweep", "ok"), ("ledger", "warn"), ("items", "warn"), ("journal", "warn"), ("mlflow", "warn"),
        ("mending", "fail"),
    ]  # fmt: skip
    assert checks[-1].found.startswith(f"chembench must be able to use '{torn.ledger}', it is not: Read-only file")
    assert checks[-1].way_out.startswith("make that possible, or name another folder")


def test_a_fault_without_a_way_out_of_its_own_gets_one(torn, monkeypatch):
    def gone(paths, findings):
        raise FileNotFoundError(errno.ENOENT, "No such file", "/there")

    monkeypatch.setattr(upkeep, "mend", gone)
    check = doctor.check_sweep(str(torn.root), torn.root.parent, fix=True)[-1]
    assert (check.found, check.way_out) == (
        "[Errno 2] No such file: '/there'",
        "mend that, then give the same command again",
    )


def test_a_damaged_ledger_fails(torn):
    torn.ledger.write_bytes(torn.ledger.read_bytes().replace(b"event", b"evemt", 1))
    (check,) = doctor.check_sweep(str(torn.root), torn.root.parent, fix=True)
    assert (check.name, check.state) == ("ledger", "fail")
    assert "is damaged in line 1 of" in check.found


def test_the_summary_counts_each_state():
    checks = [doctor.Check("a", "ok", ""), doctor.Check("b", "warn", "", ""), doctor.Check("c", "ok", "")]
    assert doctor.summary(checks) == "2 ok, 1 warn, 0 fail"
