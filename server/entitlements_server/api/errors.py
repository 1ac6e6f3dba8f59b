"""Why a call is not let in. `errors.py` at the root draws the whole tree."""

from entitlements_server.errors import FieldViolation, NotAdmittedError


class UnauthenticatedError(NotAdmittedError):
    """There are no credentials, or they are not known, or they have expired.

    Args:
        problem: Which of these, as the beginning of a sentence.
        caller: Whose credentials they were, if that is known; for the log only.
    """

    reason = "UNAUTHENTICATED"
    code = "UNAUTHENTICATED"
    remedy = "Send a token, or connect with a client certificate, that the operator has listed."

    def __init__(self, problem: str, caller: str = "") -> None:
        self.caller = caller
        super().__init__(
            f"{problem}: send the metadata 'authorization: Bearer TOKEN' with a token, or connect"
            " with a client certificate, that the operator has listed."
        )


class PermissionDeniedError(NotAdmittedError):
    """The caller's roles do not allow the method."""

    reason = "PERMISSION_DENIED"
    code = "PERMISSION_DENIED"
    remedy = "Ask the operator for the `role`."
    metadata_keys = ("caller", "role")

    def __init__(self, caller: str, role: str) -> None:
        super().__init__(
            f"Caller '{caller}' needs the role '{role}' for this method: ask the operator for it.",
            caller=caller,
            role=role,
        )


class RateLimitedError(NotAdmittedError):
    """The caller is over its rate."""

    reason = "RATE_LIMITED"
    code = "RESOURCE_EXHAUSTED"
    remedy = "Send it again after the delay in `RetryInfo`."
    metadata_keys = ("caller",)
    shed_cause = "rate"
    retry_delay_s: float

    def __init__(self, caller: str, retry_delay_s: float) -> None:
        super().__init__(
            f"Caller '{caller}' is over its rate: send the request again after the delay.",
            caller=caller,
        )
        self.retry_delay_s = retry_delay_s


class NoSuchMethodError(NotAdmittedError):
    """The server has no such method."""

    code = "UNIMPLEMENTED"
    remedy = "Reflection and the contract list the methods that there are."

    def __init__(self) -> None:
        super().__init__(
            "The server has no such method: reflection and the contract list those there are."
        )


class UnknownServiceError(NotAdmittedError):
    """Health knows no service of that name."""

    code = "NOT_FOUND"
    remedy = (
        "Ask with an empty name for the server as a whole, or for a service of reflection's list."
    )

    def __init__(self, service: str) -> None:
        super().__init__(
            f"Health knows no service '{service}': ask for the server as a whole with an empty"
            " name, or for one that reflection lists."
        )


class RequestMissingError(NotAdmittedError):
    """The call ended without a whole request."""

    reason = "INVALID_FIELD"
    code = "INVALID_ARGUMENT"
    remedy = "Send one message."
    metadata_keys = ("field",)

    def __init__(self) -> None:
        super().__init__(
            "The call has no whole request and nothing was done: send one message.",
            field="request",
        )
        self.field_violation = FieldViolation("request", "It is missing.")


class RequestOverdueError(NotAdmittedError):
    """The request did not come in time, or not before the server stops."""

    code = "UNAVAILABLE"
    remedy = "Nothing was done: send it again, along with the headers of its call."

    def __init__(self) -> None:
        super().__init__(
            "The request did not come in time and nothing was done: send it again, along with the"
            " headers of its call."
        )


class TooManyStreamsError(NotAdmittedError):
    """There is no room for one more call that streams, whoever it is from.

    It is answered UNIMPLEMENTED: clients that watch a server's health take UNAVAILABLE as a sign that it is
    dead, and strangers who hold all watches must not make it look so.
    """

    code = "UNIMPLEMENTED"
    remedy = "Try again later, or ask without a stream."
    shed_cause = "streaming"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The server has {most} calls that stream, as many as it can: try again later, or ask"
            " without a stream."
        )
