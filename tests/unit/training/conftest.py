import pytest
from training_world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return World.build(tmp_path_factory.mktemp("world"))
