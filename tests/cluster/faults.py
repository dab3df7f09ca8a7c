"""What breaks in a network, done to one host."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from .hosts import ip

if TYPE_CHECKING:
    from .hosts import Host


def drop(host: Host, what: str) -> None:
    """Drop what comes in, as a security group does.

    Args:
        host: The host that does not get it any more.
        what: A match of nftables, for example ``tcp dport 7777``.
    """
    _rule(host, f'iifname "eth0" {what} drop')


def reject(host: Host, what: str) -> None:
    """Refuse what comes in, as a host does where nobody listens."""
    _rule(host, f'iifname "eth0" {what} reject with tcp reset')


def lose(host: Host, percent: int) -> None:
    """Lose packets at random, in both directions."""
    for chain, interface in (("in", "iifname"), ("out", "oifname")):
        _rule(host, f'{interface} "eth0" numgen random mod 100 < {percent} drop', chain)


def slow_down(host: Host, rate: str) -> None:
    """Send no faster than ``rate``, for example ``8mbit``."""
    shape = ["tbf", "rate", rate, "burst", "16kb", "latency", "400ms"]
    _on(host, ["/usr/sbin/tc", "qdisc", "add", "dev", "eth0", "root", *shape])


def silence_resolver(host: Host) -> None:
    """Drop what it asks about names that are not in its own list; else such questions are refused at once."""
    _rule(host, 'iifname "lo" udp dport 53 drop')  # the resolver of a host without /etc/resolv.conf is itself


def heal(host: Host) -> None:
    """Take all rules away."""
    _on(host, ["/usr/sbin/nft", "flush", "ruleset"])


def pull_cable(host: Host) -> None:
    """Cut the line: no packet passes, and no end of a connection is told."""
    ip("-n", host.bridge_namespace, "link", "set", host.port, "down")


def plug_cable(host: Host) -> None:
    """Mend the line."""
    ip("-n", host.bridge_namespace, "link", "set", host.port, "up")


def _rule(host: Host, rule: str, chain: str = "in") -> None:
    hook = {"in": "input", "out": "output"}[chain]
    table = f"table inet faults {{\n chain {chain} {{\n  type filter hook {hook} priority 0;\n  {rule}\n }}\n}}\n"
    _on(host, ["/usr/sbin/nft", "-f", "-"], table)


def _on(host: Host, command: list[str], text: str = "") -> None:
    entered = ["nsenter", f"--net=/run/netns/{host.namespace}", *command]
    subprocess.run(entered, check=True, capture_output=True, text=True, input=text)
