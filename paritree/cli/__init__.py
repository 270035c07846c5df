"""The command line: what operators type, and what they see."""
