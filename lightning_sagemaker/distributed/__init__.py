"""Communication between the processes of a job outside collectives: connections, heartbeat, SIGTERM, failures."""
