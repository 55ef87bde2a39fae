"""The brain: space, samplers, engines, study, front, tracking, report, command line."""
