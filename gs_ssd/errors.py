"""The one exception that means "the user can fix this"; the front doors print it as one line and exit with 2."""


class UserError(ValueError):
    """Bad input. The message is one line that names the file or value and says what would work."""
