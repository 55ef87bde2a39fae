"""What a change of the network does to it, found out before any trial: cheap and small answers."""
