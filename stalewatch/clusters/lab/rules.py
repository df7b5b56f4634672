"""What a node's packet filter drops: a table for each trouble, so that deleting the table undoes it.

Packets are dropped in the node's own namespace, coming in and going out; what a node sends to itself is let through.
`enter` are the words that lead a command into that namespace.
The comment of a rule says what it does, for whoever asks the kernel how things stand.
"""

import json
from collections.abc import Iterator, Sequence

from stalewatch.clusters.lab import system

CUT, LOSE = "cut", "lose"

_RESOLUTION = 100_000

_TABLE = """\
add table inet stalewatch-{trouble}
add chain inet stalewatch-{trouble} in {{ type filter hook input priority 0; policy accept; }}
add chain inet stalewatch-{trouble} out {{ type filter hook output priority 0; policy accept; }}
"""
_RULE = """\
add rule inet stalewatch-{trouble} in iifname != "lo" {incoming} drop comment "{comment}"
add rule inet stalewatch-{trouble} out oifname != "lo" {outgoing} drop
"""


def cut(enter: Sequence[str], others: Sequence[str], comment: str) -> None:
    """Drop all that comes from or goes to these addresses."""
    listed = f"{{ {', '.join(others)} }}"
    _add(enter, CUT, f"ip saddr {listed}", f"ip daddr {listed}", comment)


def cut_all_but(enter: Sequence[str], others: Sequence[str], comment: str) -> None:
    """Drop all that comes from or goes to any address but these."""
    listed = f"{{ {', '.join(others)} }}"
    _add(enter, CUT, f"ip saddr != {listed}", f"ip daddr != {listed}", comment)


def lose(enter: Sequence[str], share: float, comment: str) -> None:
    """Drop a share of all that comes in and of all that goes out, chosen at random."""
    # At least one number and at most all: nft refuses "< 0", and that a number be below the modulus, which all are.
    last = max(1, round(share * _RESOLUTION)) - 1
    chosen = f"numgen random mod {_RESOLUTION} <= {last}"
    _add(enter, LOSE, chosen, chosen, comment)


def delete(enter: Sequence[str], trouble: str) -> None:
    """Drop nothing any more of what this trouble dropped."""
    # Deleting what was never made is an error, making what is there is none.
    script = f"add table inet stalewatch-{trouble}\ndelete table inet stalewatch-{trouble}\n"
    _nft(enter, "-f", "-", script=script)


def standing(enter: Sequence[str]) -> Iterator[str]:
    """Yield what is done to the node's packets, in words."""
    for entry in json.loads(_nft(enter, "--json", "list", "ruleset"))["nftables"]:
        if comment := entry.get("rule", {}).get("comment"):
            yield comment


def _add(enter: Sequence[str], trouble: str, incoming: str, outgoing: str, comment: str) -> None:
    rule = _RULE.format(trouble=trouble, incoming=incoming, outgoing=outgoing, comment=comment)
    _nft(enter, "-f", "-", script=_TABLE.format(trouble=trouble) + rule)


def _nft(enter: Sequence[str], *words: str, script: str = "") -> str:
    return system.run(*enter, "nft", *words, script=script)
