"""Configuration files: what operators write, read so that every mistake names the file, the key and the fix."""
