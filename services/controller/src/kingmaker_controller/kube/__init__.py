"""Everything that speaks to a Kubernetes API, and knows nothing of deciding.

`api` is the official client's asynchronous transport (TLS, kubeconfig, in-cluster tokens that rotate) with
plain dicts in and out. Asynchronous, because a watch must end when the controller does, and a thread that waits
for a socket cannot be told; plain dicts, because the client's typed models cost 90 MB of memory and know no
ServedModel. `reflector` keeps a copy of one kind, `lease` is the place of leadership, `records` keeps
statuses, `events` tells people.
"""
