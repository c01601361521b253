"""One file a tool: what it needs installed, and how its own documentation has it used."""
