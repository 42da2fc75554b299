"""Feed files: what is read, what is refused, and whose messages arrive where."""

from pathlib import Path

import pytest

from ehr.errors import Invalid
from hospital_adapters.feeds import listening, read_feeds

HOSPITAL = "feed: {name}\norganisation: {name}\nkind: {kind}\n{more}\n"


def _described(folder: Path, *feeds: tuple[str, str, str]) -> Path:
    for name, kind, more in feeds:
        (folder / f"{name}.yaml").write_text(HOSPITAL.format(name=name, kind=kind, more=more))
    return folder


def test_each_hospital_has_its_port(tmp_path: Path) -> None:
    folder = _described(tmp_path, ("one", "hl7v2", ""), ("two", "hl7v2", "port: 2600"), ("clinic", "csv", ""))
    found = listening(read_feeds(folder), 2575)
    assert {port: feed.name for port, feed in found.items()} == {2575: "one", 2600: "two"}


@pytest.mark.parametrize("port", ["", "port: 2575"])
def test_two_feeds_do_not_share_a_port(tmp_path: Path, port: str) -> None:
    folder = _described(tmp_path, ("one", "hl7v2", ""), ("two", "hl7v2", port))
    with pytest.raises(Invalid, match="'one' and 'two' would both listen on port 2575"):
        listening(read_feeds(folder), 2575)


@pytest.mark.parametrize(("kind", "port"), [("hl7v2", "0"), ("hl7v2", "70000"), ("hl7v2", "yes"), ("csv", "2600")])
def test_ports_that_are_none(tmp_path: Path, kind: str, port: str) -> None:
    with pytest.raises(Invalid, match="'port' is a TCP port"):
        read_feeds(_described(tmp_path, ("one", kind, f"port: {port}")))


def test_a_feed_file_is_parsed_once_for_each_time_that_it_is_written(tmp_path: Path) -> None:
    folder = _described(tmp_path, ("one", "hl7v2", ""))
    first = read_feeds(folder)["one"]
    assert read_feeds(folder)["one"] is first
    _described(tmp_path, ("one", "hl7v2", "code_maps: {PID-8: {x: male}}"))
    assert read_feeds(folder)["one"].code_maps == {"PID-8": {"x": "male"}}
    (tmp_path / "one.yaml").write_text("feed: [")
    with pytest.raises(Invalid, match="not a readable YAML file"):
        read_feeds(folder)
    (tmp_path / "one.yaml").unlink()
    assert read_feeds(folder) == {}
