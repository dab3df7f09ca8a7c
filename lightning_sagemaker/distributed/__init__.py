"""Communication between the processes of a job outside collectives: connections, heartbeat, SIGTERM, failures.

A security group that blocks traffic between the hosts shows, in stock torch, as half an hour of silence: an address
that drops packets looks like one where nobody listens yet. It does not look so to TCP, so three states are told apart:
a host that refuses (it is up, its process is not there yet), a name that is not known (its container is not up yet)
and one that does not answer at all.
"""
