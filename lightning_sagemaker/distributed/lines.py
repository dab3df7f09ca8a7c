"""What is said of a host that does not answer."""

from __future__ import annotations

VARIABLE = "LIGHTNING_SAGEMAKER_REACHABILITY"
DEFAULT_LIMIT = 120.0  # seconds of no answer at all after which the job ends
FIRST_LINE = 3.0  # seconds of silence, two attempts, before it is said
EVERY = 30.0  # seconds between lines while anyone waits

CAUSE = (
    "Usual cause on SageMaker: the job's security group does not let its own members talk to each other. HINT: give the"
    " security group of VpcConfig two rules, inbound and outbound, 'all traffic' from and to that security group"
    " itself; then look at the subnets' routes and network ACLs."
)


def blocked(here: str, there: str, address: str, seconds: float, *, tried: str, interface: str | None) -> str:
    """One text that names the two hosts, the address, what was tried, and the usual cause.

    Args:
        here: Host that asks.
        there: Host that does not answer.
        address: ``name:port`` that was tried.
        seconds: Since when it has been silent.
        tried: What else was tried, a clause.
        interface: Network interface of the job, if known.
    """
    by = f" (interface {interface})" if interface else ""
    return (
        f"{here} gets no answer from {there} at {address}{by}: all attempts to connect in the last {seconds:.0f} s were"
        f" dropped on the way; {tried}. {CAUSE}"
    )
