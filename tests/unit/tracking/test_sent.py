"""The file of hints."""

from chembench.tracking.sent import Seen, SentFile, only_one


def test_the_last_line_of_a_uid_counts_for_its_store_and_parent(tmp_path):
    file = tmp_path / "mlflow.sent.jsonl"
    first = SentFile(file, "sqlite:///a")
    first.add("parent", "uid", Seen("run", 1, "running", epoch=3))
    first.add("parent", "uid", Seen("run", 2, "finished", "digest", 5, 3, "models:/m"))
    again = SentFile(file, "sqlite:///a")
    assert again.find("parent", "uid") == Seen("run", 2, "finished", "digest", 5, 3, "models:/m")
    assert again.find("another parent", "uid") is None
    other = SentFile(file, "sqlite:///b")
    assert other.find("parent", "uid") is None
    assert other.others == {"sqlite:///a"}


def test_a_damaged_line_is_passed_over_and_told(tmp_path):
    file = tmp_path / "mlflow.sent.jsonl"
    SentFile(file, "u").add("p", "whole", Seen("run", 1, "finished"))
    with file.open("a") as out:
        out.write('[1]\n{"uri": "u"}\n{"uri": 5}\n')
        out.write('{"uri": "u", "parent": "p", "uid": "x", "run_id": "r", "attempt": "many"}\n')
        out.write('{"uri": "u", "parent": "p", "uid": "torn", "ru')
    sent = SentFile(file, "u")
    assert sent.find("p", "whole") is not None
    assert sent.find("p", "torn") is sent.find("p", "x") is None
    assert sent.damaged == [2, 3, 4, 5, 6]


def test_a_line_after_a_torn_one_is_read(tmp_path):
    file = tmp_path / "mlflow.sent.jsonl"
    file.write_text('{"uri": "u", "par')
    SentFile(file, "u").add("p", "uid", Seen("run", 1, "finished"))
    SentFile(file, "u").add("p", "uid", Seen("run", 1, "finished"))
    assert SentFile(file, "u").find("p", "uid") == Seen("run", 1, "finished")


def test_it_is_whole_only_behind_the_mark_that_every_request_was_answered(tmp_path):
    file = tmp_path / "mlflow.sent.jsonl"
    sent = SentFile(file, "u")
    assert not sent.is_whole
    sent.add("p", "uid", Seen("run"))
    assert not SentFile(file, "u").is_whole
    sent.mark()
    sent.mark()
    assert len(file.read_text().splitlines()) == 2
    assert SentFile(file, "u").is_whole
    SentFile(file, "v").add("p", "uid", Seen("run"))
    assert SentFile(file, "u").is_whole
    sent.add("p", "uid", Seen("run"))
    assert not SentFile(file, "u").is_whole


def test_what_is_noted_anew_replaces_lines_of_this_store_alone(tmp_path):
    file = tmp_path / "mlflow.sent.jsonl"
    SentFile(file, "other").add("p", "uid", Seen("theirs"))
    SentFile(file, "u").add("p", "old", Seen("run"))
    with file.open("a") as out:
        out.write("damaged\n")
    sent = SentFile(file, "u")
    sent.replace({("p", "new"): Seen("new run", epoch=2)})
    again = SentFile(file, "u")
    assert sent.find("p", "old") is again.find("p", "old") is None
    assert sent.find("p", "new") == again.find("p", "new") == Seen("new run", epoch=2)
    assert again.damaged == [] and not again.is_whole
    assert SentFile(file, "other").find("p", "uid") == Seen("theirs")


def test_only_one_holds_the_lock(tmp_path):
    with only_one(tmp_path / "lock") as first, only_one(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with only_one(tmp_path / "lock") as third:
        assert third
