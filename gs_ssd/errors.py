"""What the front doors turn into one line and an exit code: 2 for bad input, 4 for numbers that broke."""


class UserError(ValueError):
    """Bad input. The message is one line that names the file or value and says what would work."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).splitlines()))  # a file's name may hold a newline


class RankLostError(RuntimeError):
    """Another of the processes that share an edit ended, so that this one can't go on."""


class NonFiniteError(FloatingPointError):
    """A NaN or infinity appeared; raised before the optimiser moves, so what is edited is still good."""
