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


def root_cause(error: BaseException) -> BaseException:
    """What lies at the bottom of a distributed failure: Ray's errors carry theirs as `cause`."""
    causes = [error]
    while (cause := getattr(causes[-1], "cause", None) or causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    # The innermost: what Ray wraps around an error of ours is of its class too, and says something else.
    return next((cause for cause in reversed(causes) if isinstance(cause, JobError | StreamError)), causes[-1])


def first_line(error: BaseException) -> str:
    """An error's message without what may follow: a traceback, advice; its kind if there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def one_line(error: BaseException) -> str:
    """The kind of an error and its message; of our own, the message alone."""
    if isinstance(error, JobError | StreamError):
        return first_line(error)
    return f"{type(error).__name__}: {first_line(error)}"
