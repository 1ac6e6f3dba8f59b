"""Authentication and authorization: credentials, roles and rates."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from entitlements_server.api.errors import (
    PermissionDeniedError,
    RateLimitedError,
    UnauthenticatedError,
)
from entitlements_server.api.rate_limit import Bucket
from entitlements_server.config.callers import Caller, Role, token_hash
from entitlements_server.transport.interface import Metadata

_SCHEME = "bearer "
_MAX_TOKEN_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller, and the bucket that counts its calls, if it has a rate."""

    caller: Caller
    bucket: Bucket | None


_NOBODY = Caller(name="", roles=frozenset())


class Auth:
    """Authenticates callers and enforces their roles and rates.

    Args:
        callers: The known callers. If there are none, everyone may call every method, without a
            name.
        rate: Calls per second for callers without a rate of their own; 0: unlimited.
        burst: Calls at once for callers without a burst of their own; 0: as many as per second.
        clock: Seconds since 1970 UTC, for expiry.
        steady_clock: Seconds that never go backwards, for rates.

    Attributes:
        nobody: The identity of calls that need no authentication.
    """

    def __init__(
        self,
        callers: Sequence[Caller] = (),
        *,
        rate: float = 0,
        burst: int = 0,
        clock: Callable[[], float] = time.time,
        steady_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._steady_clock = steady_clock
        self._identities: tuple[Identity, ...] = ()
        self._certificates: Mapping[str, Identity] = {}
        self._tokens: Mapping[bytes, Identity] = {}
        self.nobody = Identity(_NOBODY, None)
        self._everyone: Identity | None = None
        self.replace(callers)

    def replace(self, callers: Sequence[Caller]) -> None:
        """Replace the callers. A caller whose rate is unchanged keeps its bucket."""
        before = {one.caller.name: one.bucket for one in self._identities}
        self._identities = tuple(
            Identity(caller, self._bucket(caller, before.get(caller.name))) for caller in callers
        )
        self._certificates = {
            one.caller.certificate: one for one in self._identities if one.caller.certificate
        }
        # One look-up per call, however many callers there are, also for a wrong token. Its timing
        # reveals nothing: the key is a digest, hashed by Python with a secret seed.
        self._tokens = {
            digest: one for one in self._identities for digest in one.caller.token_hashes
        }
        everyone = Caller(name="", roles=frozenset(Role))
        self._everyone = None if callers else Identity(everyone, self._bucket(everyone, None))

    @property
    def has_callers(self) -> bool:
        """Whether there are callers. If not, everyone may call."""
        return bool(self._identities)

    def by_token(self, metadata: Metadata) -> Identity | None:
        """Authenticate a caller by the bearer token in `metadata`.

        Returns:
            The caller; None if there is no token and a client certificate may identify it.

        Raises:
            UnauthenticatedError: There is neither, or the token is unknown or has expired.
        """
        if self._everyone is not None:
            return self._everyone
        header: str | bytes | None = None
        for key, value in metadata:
            if key == "authorization":
                if header is not None:
                    raise UnauthenticatedError("The call's credentials cannot be read")
                header = value
        if header is None:
            if self._certificates:
                return None
            raise UnauthenticatedError("The call has no credentials")
        return self._in_time(self._of_header(header))

    def by_certificate(self, auth_context: Mapping[str, Sequence[bytes]]) -> Identity:
        """Authenticate a caller by the client certificate that gRPC has verified.

        Raises:
            UnauthenticatedError: It is unknown or has expired.
        """
        names = auth_context.get("x509_subject_alternative_name") or auth_context.get(
            "x509_common_name", ()
        )
        for name in names:
            found = self._certificates.get(name.decode("utf-8", "replace"))
            if found is not None:
                return self._in_time(found)
        raise UnauthenticatedError("The call has no credentials that are known here")

    def admit(self, identity: Identity, role: Role | None) -> None:
        """Enforce the caller's roles, then its rate.

        Args:
            identity: The caller.
            role: The role that the method requires; None: any caller may call it.

        Raises:
            PermissionDeniedError: The caller does not have the role.
            RateLimitedError: The caller is over its rate.
        """
        if role is not None and role not in identity.caller.roles:
            raise PermissionDeniedError(identity.caller.name, role)
        if identity.bucket is not None:
            delay = identity.bucket.take(self._steady_clock())
            if delay:
                raise RateLimitedError(identity.caller.name, delay)

    def _of_header(self, header: str | bytes) -> Identity:
        if not isinstance(header, str) or len(header) > _MAX_TOKEN_LENGTH:
            raise UnauthenticatedError("The call's credentials cannot be read")
        token = header[len(_SCHEME) :]
        if header[: len(_SCHEME)].lower() != _SCHEME or not token:
            raise UnauthenticatedError("The call's credentials cannot be read")
        found = self._tokens.get(token_hash(token))
        if found is None:
            raise UnauthenticatedError("The call's token is not known here")
        return found

    def _in_time(self, identity: Identity) -> Identity:
        expires_s = identity.caller.expires_s
        if expires_s is not None and self._clock() >= expires_s:
            raise UnauthenticatedError("The call's credentials have expired", identity.caller.name)
        return identity

    def _bucket(self, caller: Caller, before: Bucket | None) -> Bucket | None:
        rate = self._rate if caller.rate is None else caller.rate
        burst = self._burst if caller.burst is None else caller.burst
        if not rate:
            return None
        bucket = Bucket(rate, burst or max(rate, 1), filled_at=self._steady_clock())
        same = before is not None and (before.rate, before.burst) == (bucket.rate, bucket.burst)
        return before if same else bucket
