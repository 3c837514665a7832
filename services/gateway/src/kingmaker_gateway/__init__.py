"""The one REST address in front of champion and challengers."""
