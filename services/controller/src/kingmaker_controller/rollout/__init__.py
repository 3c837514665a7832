"""Deciding, and nothing else: no I/O, no clock, no dice. `reconcile.reconcile` is the one way in.

`facts` are the inputs and the outcome, `throne` says who reigns, `variants` which model versions run,
`traffic` who gets which buckets, `conditions` and `summary` say it to people.
"""
