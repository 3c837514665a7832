"""From stream entries to aggregates: read, check, count, commit with the offset."""
