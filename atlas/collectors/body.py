"""Takes in an answer's body within its limits: gzip and deflate are unpacked piece by piece, never all at once."""

from __future__ import annotations

import zlib
from typing import Final

from atlas.collectors.errors import SourceError

RATIO_FROM_BYTES: Final = 256_000
"""Below this the ratio says nothing: a small repetitive feed packs well."""

_GZIP: Final = {"gzip", "x-gzip"}


class Body:
    """What has arrived of a body, unpacked.

    Args:
        encoding: The ``Content-Encoding`` header; only gzip and deflate were asked for.
        max_bytes: Longest unpacked body.
        max_ratio: Largest unpacked ÷ packed, once the body is longer than `RATIO_FROM_BYTES`.

    Raises:
        SourceError: The encoding was not asked for.
    """

    def __init__(self, encoding: str, *, max_bytes: int, max_ratio: int) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in {"", "identity", "deflate", *_GZIP}:
            raise SourceError(f"the answer is packed as {encoding!r}, which was not asked for")
        self._max_bytes, self._max_ratio = max_bytes, max_ratio
        self._packed = 0
        self._unpacked = bytearray()
        self._inflate: zlib._Decompress | None = None
        self._ended = False

    def feed(self, data: bytes) -> None:
        """Take ``data`` as it came over the wire.

        Raises:
            SourceError: A limit is passed, or the data is not what the header says.
        """
        self._packed += len(data)
        if self._encoding in {"", "identity"}:
            self._unpacked += data
            self._check()
            return
        while data and not self._ended:
            if self._inflate is None:
                self._inflate = zlib.decompressobj(self._window(data))
            try:
                self._unpacked += self._inflate.decompress(data, 65_536)
            except zlib.error as error:
                raise SourceError(f"the answer is not {self._encoding} as it says ({error})") from error
            self._check()
            data = self._inflate.unconsumed_tail
            if self._inflate.eof:
                # A gzip file may hold several members; what follows otherwise is padding.
                data = self._inflate.unused_data
                self._ended = not (self._encoding in _GZIP and data.startswith(b"\x1f\x8b"))
                self._inflate = None

    def finish(self) -> bytes:
        """The whole body.

        Raises:
            SourceError: Packed data ended early.
        """
        if self._inflate is not None:
            self._unpacked += self._inflate.flush()
            self._check()
            if not self._inflate.eof:
                raise SourceError("the packed answer ends in the middle", transient=True)
        return bytes(self._unpacked)

    def _window(self, data: bytes) -> int:
        if self._encoding in _GZIP:
            return 16 + zlib.MAX_WBITS
        # "deflate" means zlib's format; some servers send the bare stream.
        is_zlib = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        return zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS

    def _check(self) -> None:
        size = len(self._unpacked)
        if size > self._max_bytes:
            raise SourceError(f"the answer is longer than {self._max_bytes:,} bytes")
        if size > RATIO_FROM_BYTES and size > self._max_ratio * self._packed:
            raise SourceError(f"the answer unpacks to more than {self._max_ratio} times its size")
