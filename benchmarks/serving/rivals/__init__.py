"""The servers that fastserve is measured against, each in one file as its users would write it."""
