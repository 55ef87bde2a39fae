"""What a policy is, and how each step of it changes a torch model.

Knows nothing of tasks, runtimes, storages or searches.
"""
