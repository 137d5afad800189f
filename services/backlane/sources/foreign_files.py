"""Files that are no bars at all, known by their first bytes, so that a message can name them."""

_STARTS = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet: unpack it, or save it as CSV"),
    (b"BZh", "packed with bzip2: unpack it, or pack it with gzip"),
    (b"\xfd7zXZ\x00", "packed with xz: unpack it, or pack it with gzip"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it, or pack it with gzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"\x1f\x8b", "packed with gzip twice: unpack it once"),
    (b"PAR1", "a Parquet file packed with gzip: unpack it"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet: save it as CSV"),
    (b"\x89HDF", "an HDF5 file: write the bars as CSV or Parquet"),
    (b"ARROW1", "an Arrow or Feather file: write the bars as CSV or Parquet"),
    (b"SQLite format 3", "a database: write the bars as CSV or Parquet"),
    (b"%PDF", "a PDF document: write the bars as CSV or Parquet"),
    (b"version https://git-lfs", "the pointer of git-lfs to the file: git lfs pull fetches it"),
)
_PAGES = (b"<!doctype", b"<html", b"<?xml")
_TAR_AT, _TAR = 257, b"ustar"
_PROMISES = {
    ".gz": ("gzip file", b"\x1f\x8b"),
    ".parquet": ("Parquet file", b"PAR1"),
    ".pq": ("Parquet file", b"PAR1"),
}


def foreign_kind(start: bytes) -> str | None:
    """Returns what a file is by its first bytes, and what to do; None for what may be CSV."""
    if start[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return "a tar archive: unpack it"
    text = start[:64].lstrip()
    if text.lower().startswith(_PAGES):
        return "a web page or XML: the download went wrong, or needs a login"
    if text.startswith((b"{", b"[")):
        return "JSON: write the bars as CSV or Parquet"
    return next((kind for mark, kind in _STARTS if start.startswith(mark)), None)


def promised_kind(name: str, start: bytes) -> str | None:
    """Returns what the end of a name promises and the first bytes do not keep; None otherwise."""
    for ending, (kind, mark) in _PROMISES.items():
        if name.lower().endswith(ending) and not start.startswith(mark):
            return kind
    return None
