"""Text of strangers, shown to people."""


def visible(text: str) -> str:
    """Escape what would move the cursor, turn a line around or colour the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
