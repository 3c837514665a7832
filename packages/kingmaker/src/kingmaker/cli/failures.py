"""How a command fails: a sentence for the user and a code for the shell."""


class Failure(Exception):
    """Ends the command. code: 1 for what went wrong, 2 for a wrong call."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
