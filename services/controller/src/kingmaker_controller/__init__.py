"""The only writer of routing and plan: turns a ServedModel into running variants and ranges of traffic.

Deciding (`allocation`, `rollout`) is pure; sources, runtimes and stores carry decisions out.
"""
