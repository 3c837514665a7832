"""The local runtime: the whole stack as child processes on loopback, without a cluster.

Services are started by their module names and never imported: what runs here is what runs in pods.
"""
