"""A set of version numbers kept as ranges: its size is the number of gaps, not the number of versions."""

from bisect import bisect_right


class VersionRanges:
    """Integers in disjoint ranges, in rising order; adding the next higher number costs no search."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, version: int) -> bool:
        """Tell whether the version was added."""
        index = bisect_right(self._firsts, version) - 1
        return index >= 0 and version <= self._lasts[index]

    def __len__(self) -> int:
        """Return how many versions were added."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def add(self, version: int) -> bool:
        """Add the version; return False where it was there before."""
        firsts, lasts = self._firsts, self._lasts
        if lasts and version == lasts[-1] + 1:
            lasts[-1] = version
            return True
        index = bisect_right(firsts, version)
        if index and version <= lasts[index - 1]:
            return False
        joins_left = index > 0 and lasts[index - 1] == version - 1
        joins_right = index < len(firsts) and firsts[index] == version + 1
        if joins_left and joins_right:
            lasts[index - 1] = lasts.pop(index)
            del firsts[index]
        elif joins_left:
            lasts[index - 1] = version
        elif joins_right:
            firsts[index] = version
        else:
            firsts.insert(index, version)
            lasts.insert(index, version)
        return True

    def above(self, version: int) -> "VersionRanges":
        """Return the set of the members greater than `version`."""
        rest = VersionRanges()
        for first, last in zip(self._firsts, self._lasts, strict=True):
            if last > version:
                rest._firsts.append(max(first, version + 1))
                rest._lasts.append(last)
        return rest
