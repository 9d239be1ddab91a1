"""Errors that a user can mend."""


class JobError(Exception):
    """A job that cannot run as written: the field at fault and the mend, in one line.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type["JobError"], tuple[str, str]]:
        return JobError, (self.field, self.problem)


class StreamError(Exception):
    """A run that failed after it had started; the command line exits with code 1."""
