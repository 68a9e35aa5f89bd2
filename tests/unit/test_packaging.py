"""What pyproject.toml, constraints.txt and the Makefile promise about each other."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import chembench

ROOT = Path(chembench.__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="only a checkout has pyproject.toml")


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        normal(name): version for name, _, version in (li.partition("==") for li in lines if li[:1] not in ("", "#"))
    }


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    return normal(re.match(r"[A-Za-z0-9._-]+", requirement)[0])


def test_the_wheel_holds_every_package():
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "chembench").rglob("__init__.py")} | {
        "chembench._spaces"
    }
    assert set(project()["tool"]["setuptools"]["packages"]) == packages


def test_the_spaces_go_into_the_wheel():
    tool = project()["tool"]["setuptools"]
    assert tool["package-dir"]["chembench._spaces"] == "search_spaces"
    assert tool["package-data"]["chembench._spaces"] == ["*.toml"]
    assert (ROOT / "search_spaces" / "quickstart.toml").is_file()


def test_everything_that_is_required_is_pinned():
    table = project()["project"]
    required = {name_of(r) for r in [*table["dependencies"], *table["optional-dependencies"]["dev"]]}
    assert not required - set(pins())


def test_constraints_hold_exact_versions_and_nothing_of_this_machine():
    for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_torch_is_pinned_for_every_build():
    assert pins()["torch"] == "2.13.0"


def test_the_version_is_written_once():
    assert project()["project"]["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", chembench.__version__)


@pytest.mark.skipif(
    not any(d.name == "chembench-sweeps" for d in metadata.distributions()), reason="chembench-sweeps is not installed"
)
def test_the_installed_command_is_ours():
    scripts = {e.name: e.value for e in metadata.entry_points(group="console_scripts")}
    assert scripts["chembench"] == "chembench.cli:main"
