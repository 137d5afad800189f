"""Uploads on the wire: the opening and the parts of a file, as checked records."""

from dataclasses import dataclass

from backlane.api.portfolios.v1 import portfolio_service_pb2 as pb
from backlane.wire.portfolio_runs import check_digest
from backlane.wire.violations import Violations

CHUNK_BYTES_MAX = 1024 * 1024
"""Bytes of a file in one message."""
DIGESTS_MAX = 100
"""Digests that one call asks about."""


@dataclass(frozen=True, slots=True)
class UploadOpening:
    """Which file comes: its digest, sha256: and 64 hex digits, and its size."""

    digest: str
    size_bytes: int


UploadPart = UploadOpening | bytes


def part_from_proto(message: pb.UploadFileRequest) -> UploadPart:
    """Returns the opening or the bytes of a message; raises InvalidRequestError for neither."""
    found = Violations()
    match message.WhichOneof("part"):
        case "opening":
            opening = message.opening
            check_digest(found, "opening.digest", opening.digest)
            size = opening.size_bytes
            found.check(size >= 0, "opening.size_bytes", f"is {size}, below 0")
            found.raise_if_any()
            return UploadOpening(opening.digest, size)
        case "content":
            size = len(message.content)
            is_right = 0 < size <= CHUNK_BYTES_MAX
            said = f"has {size} bytes; accepted is 1 to {CHUNK_BYTES_MAX}"
            found.check(is_right, "content", said)
        case _:
            found.add("part", "is missing: send the opening first, then the content")
    found.raise_if_any()
    return message.content


def digests_from_proto(message: pb.FindMissingFilesRequest) -> tuple[str, ...]:
    """Returns the digests that a caller asks about; raises InvalidRequestError for others."""
    found = Violations()
    count = len(message.digests)
    found.check(count <= DIGESTS_MAX, "digests", f"holds {count}; at most {DIGESTS_MAX}")
    for index, digest in enumerate(message.digests[:DIGESTS_MAX]):
        check_digest(found, f"digests[{index}]", digest)
    found.raise_if_any()
    return tuple(message.digests)
