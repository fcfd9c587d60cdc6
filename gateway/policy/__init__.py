"""Policy: what files say (spec), what they compile to (snapshot), what it decides (decide)."""
