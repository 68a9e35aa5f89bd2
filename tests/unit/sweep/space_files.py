"""Space files with mistakes, and what is said about them."""

import pytest
import tomli_w
from sweep_fakes import GRID, changed

from chembench.errors import ConfigError
from chembench.sweep.reading import read_space


def written(folder, file="mine.toml", text=None, **changes):
    """A space file in ``folder``: `GRID` with changes, or ``text``."""
    path = folder / file
    path.write_text(tomli_w.dumps(changed(GRID, **changes)) if text is None else text)
    return str(path)


def problems_of(name_or_path, overrides=()):
    with pytest.raises(ConfigError) as caught:
        read_space(name_or_path, overrides)
    return list(caught.value.problems)


def problems_in(folder, **changes):
    """What is wrong with `GRID` under these changes, without the file's name and line."""
    return [told.partition(": ")[2] for told in problems_of(written(folder, **changes))]


def only_problem(folder, **changes):
    problems = problems_in(folder, **changes)
    assert len(problems) == 1, problems
    return problems[0]
