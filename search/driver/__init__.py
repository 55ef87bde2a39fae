"""The loop that asks, has trials run, and tells; and the job that a worker runs."""
