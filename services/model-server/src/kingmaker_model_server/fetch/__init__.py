"""The short step before a server starts: from `models:/name@alias`, or a path, to a verified folder.

The only module tree that imports mlflow, and only when a registry is asked: it takes seconds and 250 MB
that no serving process should pay.
"""
