"""Whether this machine can run a sweep: each check says what was found, and the way out where something is missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from chembench.config import release_of
from chembench.errors import ChembenchError
from chembench.paths import default_cache, default_data_dir, fault_of_machine, spaces_dir

if TYPE_CHECKING:
    from chembench.damage import Finding
    from chembench.handles import Sweep

State = Literal["ok", "mended", "warn", "fail"]

DISTRIBUTION = "chembench-sweeps"
GIB = 2**30
LEAST_MEMORY_GB = 4.0
LEAST_DISK_GB = 2.0

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?\s*>=\s*(?P<least>[0-9.]+)\s*(;(?P<marker>.*))?")
_BELOW = re.compile(r"python_version\s*<\s*[\"'](\d+)\.(\d+)[\"']")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    state: State
    found: str
    way_out: str = ""

    def as_data(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Places:
    """What is looked at; ``None`` stands for the default place."""

    cache_dir: Path | None = None
    data_dir: Path | None = None
    sweep: str | None = None
    out: Path = Path("sweeps")
    fix: bool = False
    """Mend what can be mended in the sweep."""


def examine(places: Places) -> list[Check]:
    """Every check, in the order they are read; without ``fix`` none of them changes anything that lasts."""
    cache = places.cache_dir or default_cache()
    checks = [check_python(), *check_packages(), check_processors(), check_memory(), check_cache(cache)]
    checks += [check_spaces(), check_data(places.data_dir or default_data_dir()), check_gpu(), check_ray()]
    return [*checks, *check_sweep(places.sweep, places.out, fix=places.fix)] if places.sweep else checks


def check_python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return Check("python", "ok", f"{version} at {sys.executable}")


def check_packages() -> list[Check]:
    """One line for everything that fits, one more for each requirement that does not."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return [Check("packages", "fail", f"{DISTRIBUTION} is not installed here", "run make install")]
    checks = [check for text in requirements if (check := _check_requirement(text))]
    wrong = [check for check in checks if check.state != "ok"]
    good = ", ".join(check.found for check in checks if check.state == "ok")
    return [Check("packages", "ok", good), *wrong] if good else wrong


def _check_requirement(text: str) -> Check | None:
    """The state of one requirement; none for those of an extra.

    Raises:
        ValueError: if pyproject.toml asks in a form this does not read.
    """
    match = _REQUIREMENT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"requirements are read as 'name>=version', got {text!r}")
    name, least, marker = match["name"], match["least"], match["marker"] or ""
    if "extra" in marker:
        return None
    below = _BELOW.search(marker)
    if below and sys.version_info >= (int(below[1]), int(below[2])):
        return Check(
            name,
            "warn",
            f"{name} has no release for this Python",
            "its tasks need Python 3.11; your own and the embedded tasks work",
        )
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, "fail", f"{name} is missing, {least} or newer is needed", "run make install")
    if release_of(version) < release_of(least):
        return Check(name, "fail", f"{name} {version} is older than {least}", "run make install")
    return Check(name, "ok", f"{name} {version}")


def check_processors() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    found = f"{usable} usable of {os.cpu_count()} processors, OMP_NUM_THREADS={threads or 'unset'}"
    quota = _cgroup_processors()
    if quota is not None and quota < usable:
        return Check(
            "processors",
            "warn",
            f"{found}, but this container may use {quota:g}",
            "give sweeps no more: --max-concurrent",
        )
    return Check("processors", "ok", found)


def _cgroup_processors() -> float | None:
    text = _read(Path("/sys/fs/cgroup/cpu.max"))
    limit, _, period = text.partition(" ")
    return int(limit) / int(period) if limit.isdigit() and period.strip().isdigit() else None


def check_memory() -> Check:
    available = _available_memory()
    if available is None:
        return Check("memory", "warn", "unknown on this system", f"sweeps want {LEAST_MEMORY_GB:g} GiB free")
    found = f"{available / GIB:.1f} GiB available"
    if available < LEAST_MEMORY_GB * GIB:
        return Check("memory", "warn", found, f"sweeps want {LEAST_MEMORY_GB:g} GiB; use --max-concurrent 1")
    return Check("memory", "ok", found)


def _available_memory() -> int | None:
    """Bytes that can be taken: the machine's, or what this container's limit leaves."""
    match = re.search(r"MemAvailable:\s+(\d+) kB", _read(Path("/proc/meminfo")))
    if match is None:
        return None
    machine = int(match[1]) * 1024
    limit, used = (_read(Path("/sys/fs/cgroup") / name).strip() for name in ("memory.max", "memory.current"))
    return min(machine, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else machine


def _read(path: Path) -> str:
    """The text of a system file, empty where this system has none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def check_cache(cache: Path) -> Check:
    """Whether the cache can be written and has room."""
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        way_out = "choose a folder that can be written: --cache-dir or CHEMBENCH_CACHE_DIR"
        return Check("cache", "fail", f"{cache} cannot be written: {error.strerror}", way_out)
    found = f"{cache} ({free / GIB:.1f} GiB free)"
    if free < LEAST_DISK_GB * GIB:
        return Check("cache", "warn", found, f"keep {LEAST_DISK_GB:g} GiB free, or choose another disk: --cache-dir")
    return Check("cache", "ok", found)


def check_spaces() -> Check:
    count = len(list(spaces_dir().glob("*.toml")))
    if not count:
        return Check("spaces", "fail", f"no space file in {spaces_dir()}", "install the package again")
    return Check("spaces", "ok", f"{count} in {spaces_dir()}")


def check_data(data_dir: Path) -> Check:
    """Which raw files of the built-in tasks are already here."""
    from chembench.data.catalog import TASKS

    files = {name: task.file for name, task in TASKS.items() if task.source.startswith("deepchem:") and task.file}
    present = sorted(name for name, file in files.items() if (data_dir / file).is_file())
    absent = sorted(set(files) - set(present))
    found = f"{data_dir}: raw files of {', '.join(present) or 'no task'}"
    if not absent:
        return Check("data", "ok", found)
    way_out = (
        f"DeepChem downloads {', '.join(absent)}; without network put the files there or name a folder: --data-dir"
    )
    return Check("data", "warn", found, way_out)


def check_gpu() -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check("gpu", "fail", "torch is missing", "run make install")
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return Check("gpu", "ok", ", ".join(f"{d.name} ({d.total_memory / GIB:.0f} GiB)" for d in devices))
    if Path("/dev/nvidia0").exists():
        way_out = "install the build of torch for your driver's CUDA version"
        return Check("gpu", "warn", f"a GPU is here, but torch {torch.__version__} cannot use it", way_out)
    return Check("gpu", "ok", "none; spaces that ask for one are refused, quickstart runs without")


def check_ray() -> Check:
    return _guarded("ray", _import_ray, "use --runner serial, or run make install")


def _import_ray() -> str:
    import ray
    import ray.tune

    return f"ray {ray.__version__} with tune imports"


def check_sweep(sweep: str, out: Path, *, fix: bool = False) -> list[Check]:
    """How far a sweep is, and what in its folder and its projections is not as its ledger says.

    Args:
        sweep: its name, or its folder.
        out: folder that holds sweeps.
        fix: mend what can be mended; nothing, while a driver is at work.
    """
    from chembench import api, upkeep

    try:
        view = api.open_sweep(sweep, out=out)
        findings = upkeep.examine_sweep(view.paths)
        broken = any(finding.what == "ledger" and finding.state == "fail" for finding in findings)
        first = [] if broken else [_progress(view)]
    except (ChembenchError, OSError) as error:
        return [_failed("sweep", error)]
    mended, problems = {}, []
    if fix and not any(finding.what == "lock" for finding in findings):
        try:
            mended = {id(one.finding): one.done for one in upkeep.mend(view.paths, findings)}
        except (ChembenchError, OSError) as error:
            problems.append(_failed("mending", error))
    return [*first, *(_checked(finding, mended.get(id(finding)), fix) for finding in findings), *problems]


def _failed(what: str, error: ChembenchError | OSError) -> Check:
    """A check that could not be made to its end; the last part of our own texts is the way out."""
    text = " ".join(str(fault_of_machine(error) or error).split())
    found, _, way_out = text.rpartition("; ")
    return Check(what, "fail", found or text, way_out if found else "mend that, then give the same command again")


def _progress(view: Sweep) -> Check:
    status = view.status()
    return Check("sweep", "ok", f"{view.root}: the ledger reads, {status.left} of {status.expected} items left")


def _checked(finding: Finding, done: str | None, fix: bool) -> Check:
    text = f"{finding.found} ({finding.where})"
    if done is not None:
        return Check(finding.what, "mended", f"{text}: {done}")
    way_out = f"--fix: {finding.way_out}" if finding.is_mendable and not fix else finding.way_out
    return Check(finding.what, finding.state, text, way_out)


def _guarded(name: str, look: Callable[[], str], way_out: str) -> Check:
    try:
        return Check(name, "ok", look())
    except (ChembenchError, ImportError, OSError) as error:
        return Check(name, "fail", " ".join(str(error).split()), way_out)


def summary(checks: Sequence[Check]) -> str:
    """How many checks ended in each state."""
    return ", ".join(_counted(checks))


def _counted(checks: Sequence[Check]) -> Iterator[str]:
    for state in get_args(State):
        count = sum(check.state == state for check in checks)
        if count or state != "mended":
            yield f"{count} {state}"
