"""Reads segments that arrive in pieces: the driver forgets the beginning of a header (PYTHON-1337, as of 3.30).

Since protocol 5, what a node sends comes in segments, each with a header of six bytes. Where fewer of them have
arrived, the driver's buffer stands at its end when it is asked for the rest that must be kept: nothing is. The next
bytes are then taken for a header, and either its checksum is wrong and the connection is given up, or all that follows
is waited for in vain. To whoever measures, a node was away. Twenty sessions that read values of 5 kB under gevent came
to that within seconds, again and again.

Compressed segments have other headers, of which it takes a wrong length besides; our clients ask for none.
"""


class WholeSegments:
    """Mix it into a connection of the driver, before the driver's class."""

    def _process_segment_buffer(self) -> None:
        """Take the next segment, where all of it has arrived; else leave all that has where it is."""
        super()._process_segment_buffer()  # type: ignore[misc] # the driver's, which ships no type information
        buffer = self._io_buffer  # type: ignore[attr-defined] # as above
        if not buffer.has_consumed_segment:
            buffer.io_buffer.seek(0)
