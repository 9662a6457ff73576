"""How many messages there are, known before any is read, so that flags can be held against it."""

import argparse
import re

SPAM = {False: 747, True: 180}  # by --demo: messages in the collection; as many ham are kept
LONGEST_MESSAGE = 120  # tokens of the longest training message of the SMS Spam Collection
DISTINCT = {  # by --demo: distinct messages, their tokens, and those of the longest
    False: (1388, 41_358, LONGEST_MESSAGE),
    True: (225, 11_838, 80),
}
PAD_TOKEN_ID = 50256  # the last of GPT-2's vocabulary
SHARES = (70, 10, 20)  # percent of a user's own messages for training, validation and test


def parse_shares(text: str) -> tuple[int, ...]:
    """Returns the percentages of training, validation and test that "80/10/10" stands for."""
    digits = re.fullmatch(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{1,2})", text)
    shares = tuple(map(int, digits.groups())) if digits else ()
    if not shares or 0 in shares or sum(shares) != 100:
        raise argparse.ArgumentTypeError(
            f"must be three percentages above 0 that make 100, such as 80/10/10, got {text!r}"
        )
    return shares


def split_sizes(total: int) -> dict[str, int]:
    """Returns how many of so many messages each split gets: 70 %, 10 %, and the rest."""
    train, validation = int(0.7 * total), int(0.1 * total)
    return {"train": train, "validation": validation, "test": total - train - validation}


def sizes_of(demo: bool) -> dict[str, int]:
    """Returns the messages of each split, of the collection or of what is made up."""
    return split_sizes(2 * SPAM[demo])
