"""Uploaded files on disk: whole or not at all, under their digests, the least used removed."""

import hashlib
import os
from pathlib import Path

import pytest

from backlane.errors import UploadDigestMismatchError, UploadNotFoundError
from backlane.sources.uploads import KEPT_S_MIN, UploadedFiles


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def kept(files: UploadedFiles, content: bytes) -> str:
    digest = digest_of(content)
    with files.receive(digest, len(content)) as arrival:
        arrival.append(content)
        arrival.keep()
    return digest


def test_a_file_is_found_by_its_digest(tmp_path: Path) -> None:
    files = UploadedFiles(tmp_path)
    assert files.missing([digest_of(b"a"), digest_of(b"b")]) == [digest_of(b"a"), digest_of(b"b")]
    digest = kept(files, b"a")
    assert files.find(digest).read_bytes() == b"a"
    assert files.size_bytes(digest) == 1
    assert files.missing([digest, digest_of(b"b")]) == [digest_of(b"b")]
    with pytest.raises(UploadNotFoundError):
        files.find(digest_of(b"b"))


@pytest.mark.parametrize("digest", ["", "sha256:", f"sha256:{'A' * 64}", "sha256:../../etc/x"])
def test_what_is_no_digest_is_no_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ValueError, match="is no digest"):
        UploadedFiles(tmp_path).find(digest)


def test_what_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    files = UploadedFiles(tmp_path)
    with files.receive(digest_of(b"abc"), 3) as arrival:
        arrival.append(b"abd")
        with pytest.raises(UploadDigestMismatchError):
            arrival.keep()
    with files.receive(digest_of(b"abc"), 3) as arrival:
        arrival.append(b"ab")
    assert list((tmp_path / "uploads").iterdir()) == []


def test_the_least_recently_used_go_first_and_those_of_the_last_day_never(tmp_path: Path) -> None:
    files = UploadedFiles(tmp_path)
    digests = [kept(files, content) for content in (b"aaaa", b"bbbb", b"cccc")]
    for age, digest in enumerate(reversed(digests)):
        os.utime(files.find(digest), (1_000 - age, 1_000 - age))
    now_s = 1_000.0 + KEPT_S_MIN
    assert files.prune(12, now_s) == 0
    assert files.prune(5, 1_000.0) == 0
    assert files.prune(5, now_s) == 2
    assert files.missing(digests) == digests[:2]
