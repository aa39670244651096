"""What LeRobot has no place for, collected so that all of it is said at once."""

from __future__ import annotations

from nextmove.config import ConfigError


class Refused:
    """Sentences, each with the option that would make a policy exportable."""

    def __init__(self, what: str) -> None:
        self.what, self.sentences = what, list[str]()

    def unless(self, fits: bool, sentence: str) -> None:
        """Adds the sentence where something does not fit."""
        if not fits:
            self.sentences.append(sentence)

    def check(self) -> None:
        """Raises ConfigError with all sentences, if there are any."""
        if self.sentences:
            raise self.problem()

    def problem(self, *more: str) -> ConfigError:
        """The error that says all sentences."""
        return ConfigError(f"{self.what}: LeRobot has no place for\n  - " + "\n  - ".join((*self.sentences, *more)))
