"""The command line: `main` dispatches, one file a command under commands/."""
