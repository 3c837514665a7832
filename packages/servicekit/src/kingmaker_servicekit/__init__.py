"""What every Kingmaker service needs to run, and no word of what it is for.

A thing moves in here when two services need it: logs, a Redis client with timeouts, listening,
draining, /metrics, child processes that do not outlive their parent.
"""
