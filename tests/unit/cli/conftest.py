import pytest


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CHEMBENCH_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
