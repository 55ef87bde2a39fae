"""The built-in tasks: small enough to train at first use, real enough to compress."""
