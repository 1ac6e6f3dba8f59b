"""Why a call is rejected before its request is served.

RefusedError
├── UnauthenticatedError     no credentials, or none that are known and in time
├── PermissionDeniedError    the caller's roles do not allow the method
├── RateLimitedError         the caller is over its rate
├── NoSuchMethodError        the server has no method of that path
├── UnknownServiceError      health knows no service of that name
├── RequestMissingError      the call ended without a request
├── TooManyStreamsError      there is no room for one more that streams
└── RequestOverdueError      the request did not come in time
"""

from collections.abc import Mapping


class RefusedError(Exception):
    """A call that is not let in. Nothing was charged."""

    def __init__(self, message: str, metadata: Mapping[str, str]) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class UnauthenticatedError(RefusedError):
    """There are no credentials, or they are not known, or they have expired."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"{problem}: send the metadata 'authorization: Bearer TOKEN' with a token, or connect"
            " with a client certificate, that the operator has listed.",
            {},
        )


class PermissionDeniedError(RefusedError):
    """The caller's roles do not allow the method."""

    def __init__(self, caller: str, role: str) -> None:
        super().__init__(
            f"Caller '{caller}' needs the role '{role}' for this method: ask the operator for it.",
            {"caller": caller, "role": role},
        )


class RateLimitedError(RefusedError):
    """The caller is over its rate; `retry_delay_s` is when to try again, in seconds."""

    def __init__(self, caller: str, retry_delay_s: float) -> None:
        super().__init__(
            f"Caller '{caller}' is over its rate: send the request again after the delay.",
            {"caller": caller},
        )
        self.retry_delay_s = retry_delay_s


class NoSuchMethodError(RefusedError):
    """The server has no method of that path."""

    def __init__(self) -> None:
        super().__init__(
            "The server has no such method: reflection and the contract list those there are.", {}
        )


class UnknownServiceError(RefusedError):
    """Health knows no service of that name."""

    def __init__(self, service: str) -> None:
        super().__init__(
            f"Health knows no service '{service}': ask for the server as a whole with an empty"
            " name, or for one that reflection lists.",
            {},
        )


class RequestMissingError(RefusedError):
    """The call ended without a whole request."""

    def __init__(self) -> None:
        super().__init__(
            "The call has no whole request and nothing was done: send one message.", {}
        )


class RequestOverdueError(RefusedError):
    """The request did not come in time, or not before the server stops. Sending it again is safe."""

    def __init__(self) -> None:
        super().__init__(
            "The request did not come in time and nothing was done: send it again, along with the"
            " headers of its call.",
            {},
        )


class TooManyStreamsError(RefusedError):
    """There is no room for one more call that streams, whoever it is from.

    It is answered UNIMPLEMENTED: clients that watch a server's health take UNAVAILABLE as a sign that it is
    dead, and strangers who hold all watches must not make it look so.
    """

    def __init__(self, most: int) -> None:
        super().__init__(
            f"The server has {most} calls that stream, as many as it can: try again later, or ask"
            " without a stream.",
            {},
        )
