"""The coordinator: compares digests of all regions and decides; it never sees a key or a value."""
