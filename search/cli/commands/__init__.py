"""One file a command: `add(parser)` its arguments, `run(arguments)` its work."""
