"""What a sweep ran on, what it read, and how to make it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from chembench.report.page.blocks import Block, Cell, Code, Heading, Link, Section, absent, paragraph, table
from chembench.report.page.source import Source

_FACTS = ("processor", "cpus", "machine", "platform", "python", "commit")


def environment(source: Source) -> Section:
    """Machine, versions and inputs."""
    found = source.environment
    blocks: list[Block] = []
    if found:
        lines: list[tuple[str | Cell, ...]] = [(name, str(found[name])) for name in _FACTS if name in found]
        devices = sorted({row.device for row in source.rows if row.device})
        lines.append(("devices of the runs", ", ".join(devices) or "-"))
        blocks += [Heading(text="Machine"), table(("", "of the first start"), lines)]
    else:
        blocks.append(absent("The sweep has no environment.json, so the machine is not known."))
    versions = source.state.header.get("versions") or found.get("versions") or {}
    if versions:
        blocks += [
            Heading(text="Versions"),
            table(("package", "version"), [(n, str(v)) for n, v in sorted(versions.items())]),
        ]
    blocks += _inputs(source.state.header)
    return Section(name="environment", title="Environment", blocks=tuple(blocks))


def _inputs(header: Mapping[str, Any]) -> list[Block]:
    inputs = header.get("inputs", {})
    if not inputs:
        return [absent("The sweep's record names no inputs by digest.")]
    lines: list[tuple[str | Cell, ...]] = [(name, str(digest)) for name, digest in sorted(inputs.items())]
    return [Heading(text="Inputs by digest"), table(("input", "digest"), lines)]


def _of_space(name: str) -> list[Block]:
    return [
        paragraph("Every setting, defaults included, stands in the sweep's space.toml, which follows. With that file:"),
        Code(text=shlex.join(["chembench", "sweep", "--space", "space.toml", "--name", name])),
        table(("file",), [(Cell(text="space.toml", link=Link(kind="folder", to="space.toml")),)]),
    ]


def _of_recording(recorded: Mapping[str, Any]) -> list[Block]:
    return [
        paragraph(
            f"Its scores are those of {recorded['name']} (SHA-256 {recorded['sha256']}); with another file it is "
            "another replay. The space that they were planned in, which trains nothing but gives them back:"
        )
    ]


def again(source: Source) -> Section:
    """The command, and the space as it was resolved."""
    name = source.state.name
    blocks: list[Block] = []
    command = source.state.header.get("command") or source.environment.get("command")
    if command:
        first = PurePath(str(command[0])).name
        blocks += [
            paragraph("The sweep was begun with:"),
            Code(text=shlex.join([first, *map(str, command[1:])])),
        ]
    recorded = source.state.header.get("recorded")
    try:
        space = source.paths.space.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        blocks.append(absent("The sweep's folder holds no space.toml: its runs were recorded elsewhere."))
    else:
        blocks += [
            *(_of_recording(recorded) if recorded else _of_space(name)),
            Code(text=space),
        ]
    blocks += [paragraph("This report is made again by:"), Code(text=shlex.join(["chembench", "report", name]))]
    return Section(name="again", title="Make it again", blocks=tuple(blocks))
