"""The file of hints."""

from chembench.tracking.sent import Seen, SentFile, only_one


def test_the_last_line_of_a_uid_counts_for_its_store_and_parent(tmp_path):
    file = tmp_path / "mlflow.sent.jsonl"
    first = SentFile(file, "sqlite:///a")
    first.add("parent", "uid", Seen("run", 1, "running", epoch=3))
    first.add("parent", "uid", Seen("run", 2, "finished", epoch=5, extras="models:/m"))
    again = SentFile(file, "sqlite:///a")
    assert again.find("parent", "uid") == Seen("run", 2, "finished", epoch=5, extras="models:/m")
    assert again.find("another parent", "uid") is None
    assert SentFile(file, "sqlite:///b").find("parent", "uid") is None
    assert again.count_sent({"uid": (2, "finished"), "other": (1, "finished")}) == 1
    assert again.count_sent({"uid": (3, "finished")}) == 0


def test_a_torn_or_foreign_line_is_passed_over(tmp_path):
    file = tmp_path / "mlflow.sent.jsonl"
    SentFile(file, "u").add("p", "whole", Seen("run", 1, "finished"))
    with file.open("a") as out:
        out.write('[1]\n{"uri": "u"}\n{"uri": "u", "parent": "p", "uid": "torn", "ru')
    sent = SentFile(file, "u")
    assert sent.find("p", "whole") is not None
    assert sent.find("p", "torn") is None


def test_a_line_after_a_torn_one_is_read(tmp_path):
    file = tmp_path / "mlflow.sent.jsonl"
    file.write_text('{"uri": "u", "par')
    SentFile(file, "u").add("p", "uid", Seen("run", 1, "finished"))
    SentFile(file, "u").add("p", "uid", Seen("run", 1, "finished"))
    assert SentFile(file, "u").find("p", "uid") == Seen("run", 1, "finished")


def test_only_one_holds_the_lock(tmp_path):
    with only_one(tmp_path / "lock") as first, only_one(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with only_one(tmp_path / "lock") as third:
        assert third
