"""Numbers with their nouns, for messages and reports."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return "1 scene" or "2 scenes"; `plural` is the noun with an s unless given."""
    return f"{number} {noun if number == 1 else plural_of(noun, plural)}"


def plural_of(noun: str, plural: str | None = None) -> str:
    """Return the plural of a noun: with -es after a hissing sound, else with -s, unless given."""
    if plural is not None:
        return plural
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
