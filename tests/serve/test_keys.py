"""API keys: what the file may say, whose key a request carries, and that nothing of a key is told."""

import base64
import hashlib
import os
from pathlib import Path

import pytest

from pixrt.errors import OptionError
from pixrt.serve.guard.keys import Keys, carried_key, new_key


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "keys"
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return file


def test_a_new_key_opens(tmp_path: Path) -> None:
    (mine, line), (yours, other) = new_key("anna"), new_key("ben.o-k_9")
    keys = Keys(written(tmp_path, f"# who\n\n{line}\n  {other}  \n"))
    assert keys.names == ("anna", "ben.o-k_9")
    assert keys.owner(mine.encode()) == "anna"
    assert keys.owner(yours.encode()) == "ben.o-k_9"
    assert keys.owner(mine.encode() + b" ") is None
    assert keys.owner(b"") is None
    assert keys.owner(line.partition(":")[2].encode()) is None, "what the file holds is no key"
    assert keys.notes == ()


def test_the_line_is_the_sha256_of_the_key() -> None:
    key, line = new_key("anna")
    assert line == f"anna:{hashlib.sha256(key.encode('ascii')).hexdigest()}"
    assert len({new_key("anna")[0] for _ in range(50)}) == 50
    assert len(base64.urlsafe_b64decode(key.removeprefix("pixrt-") + "=")) == 32


def test_keys_without_a_file() -> None:
    mine, line = new_key("ui")
    keys = Keys(None, [line])
    keys.read()
    assert not keys.has_file
    assert (keys.names, keys.owner(mine.encode()), keys.owner(b"x"), keys.notes) == (("ui",), "ui", None, ())
    with pytest.raises(OptionError):
        Keys(None, ["ui:x"])


def test_two_keys_of_one_name_change_over(tmp_path: Path) -> None:
    (old, first), (new, second) = new_key("anna"), new_key("anna")
    keys = Keys(written(tmp_path, f"{first}\n{second}"))
    assert keys.names == ("anna",)
    assert keys.owner(old.encode()) == keys.owner(new.encode()) == "anna"


def test_reading_again(tmp_path: Path) -> None:
    (old, first), (new, second) = new_key("anna"), new_key("ben")
    keys = Keys(written(tmp_path, first))
    written(tmp_path, second)
    assert keys.owner(new.encode()) is None
    keys.read()
    assert (keys.owner(new.encode()), keys.owner(old.encode())) == ("ben", None)
    written(tmp_path, "nonsense")
    with pytest.raises(OptionError):
        keys.read()
    assert keys.owner(new.encode()) == "ben", "a broken file locks nobody out"


@pytest.mark.parametrize("text", ["anna", "anna:12", f"anna:{'A' * 64}", f":{'a' * 64}", f"an na:{'a' * 64}"])
def test_a_wrong_line_is_told_by_its_number_only(tmp_path: Path, text: str) -> None:
    with pytest.raises(OptionError, match="line 2 of the keys file") as caught:
        Keys(written(tmp_path, f"\n{text}"))
    assert text not in str(caught.value)


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read: No such file"):
        Keys(tmp_path / "none")
    with pytest.raises(OptionError, match="has no key"):
        Keys(written(tmp_path, "# nobody yet\n"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="it is no text"):
        Keys(tmp_path / "binary")


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_who_else_may_touch_the_file(tmp_path: Path) -> None:
    _, line = new_key("anna")
    assert "read by everybody" in Keys(written(tmp_path, line, 0o644)).notes[0]
    for mode in (0o620, 0o602):
        with pytest.raises(OptionError, match=r"written by others.*chmod 600"):
            Keys(written(tmp_path, line, mode))


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([(b"authorization", b"Bearer k1")], b"k1"),
        ([(b"authorization", b"bearer  k1 ")], b"k1"),
        ([(b"x-api-key", b"k2")], b"k2"),
        ([(b"authorization", b"Basic " + base64.b64encode(b"anyone:k3:4"))], b"k3:4"),
        ([(b"authorization", b"Basic %%%")], None),
        ([(b"authorization", b"Digest k")], None),
        ([(b"authorization", b"k")], None),
        ([(b"host", b"x")], None),
    ],
)
def test_where_a_request_carries_its_key(headers: list[tuple[bytes, bytes]], key: bytes | None) -> None:
    assert carried_key(headers) == key


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ä", "x" * 65, "a\n"])
def test_a_name_that_does_not_fit(name: str) -> None:
    with pytest.raises(OptionError, match="letters, digits"):
        new_key(name)
