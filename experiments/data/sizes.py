"""How many messages there are, known before any is read, so that flags can be held against it."""

SPAM = {False: 747, True: 180}  # by --demo: messages in the collection; as many ham are kept
LONGEST_MESSAGE = 120  # tokens of the longest training message of the SMS Spam Collection


def split_sizes(total: int) -> dict[str, int]:
    """Returns how many of so many messages each split gets: 70 %, 10 %, and the rest."""
    train, validation = int(0.7 * total), int(0.1 * total)
    return {"train": train, "validation": validation, "test": total - train - validation}


def sizes_of(demo: bool) -> dict[str, int]:
    """Returns the messages of each split, of the collection or of what is made up."""
    return split_sizes(2 * SPAM[demo])
