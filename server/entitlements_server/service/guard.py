"""Who is calling, and whether they may: credentials, roles and rates."""

import hmac
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from entitlements_server.callers import Caller, Role, token_hash
from entitlements_server.service.errors import (
    PermissionDeniedError,
    RateLimitedError,
    UnauthenticatedError,
)

Metadata = Iterable[tuple[str, str | bytes]]
"""What a call was sent with."""

_SCHEME = "bearer "
_MAX_TOKEN_LENGTH = 1024


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` calls a second, up to `burst` at once.

    Raises:
        ValueError: The rate is not above 0, or the burst below 1.
    """

    rate: float
    burst: float
    level: float = 0
    filled_at: float = 0

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.burst < 1:
            raise ValueError("A rate is above 0 and a burst at least 1.")
        self.level = self.burst

    def take(self, now: float) -> float:
        """Take one call out.

        Args:
            now: The time in seconds, by a clock that never goes back.

        Returns:
            0 if there was one, otherwise in how many seconds there will be.
        """
        self.level = min(self.burst, self.level + (now - self.filled_at) * self.rate)
        self.filled_at = now
        if self.level >= 1:
            self.level -= 1
            return 0
        return (1 - self.level) / self.rate

    def owe(self, calls: int) -> None:
        """Take more out of it than there is: what follows has to wait."""
        self.level -= calls


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that was recognised, and the bucket that counts its calls, if it has a rate."""

    caller: Caller
    bucket: Bucket | None


_NOBODY = Caller(name="", roles=frozenset())


class Guard:
    """Recognises callers and holds them to their roles and rates.

    Args:
        callers: Those who may call. None at all: everyone may do everything, without a name.
        rate: Calls a second of a caller without a rate of its own; 0: any.
        burst: Calls at once, likewise; 0: those of one second.
        clock: Seconds since 1970 UTC, for what expires.
        steady_clock: Seconds that never go back, for rates.

    Attributes:
        nobody: Who calls a method that is open to all.
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
        self._recognised: dict[bytes, Identity] = {}
        self._secret = os.urandom(32)
        self.nobody = Identity(_NOBODY, None)
        self._everyone: Identity | None = None
        self.replace(callers)

    def replace(self, callers: Sequence[Caller]) -> None:
        """Let other callers in from now on. Who keeps its rate keeps its bucket."""
        before = {one.caller.name: one.bucket for one in self._identities}
        self._identities = tuple(
            Identity(caller, self._bucket(caller, before.get(caller.name))) for caller in callers
        )
        self._certificates = {
            one.caller.certificate: one for one in self._identities if one.caller.certificate
        }
        self._recognised = {}
        everyone = Caller(name="", roles=frozenset(Role))
        self._everyone = None if callers else Identity(everyone, self._bucket(everyone, None))

    @property
    def has_callers(self) -> bool:
        """Whether anyone is listed: if not, everyone may call."""
        return bool(self._identities)

    def by_token(self, metadata: Metadata) -> Identity | None:
        """Recognise a caller by the bearer token in `metadata`.

        Returns:
            Who it is; None if there is no token and a client certificate may tell.

        Raises:
            UnauthenticatedError: There is neither, or the token is not known or has expired.
        """
        if self._everyone is not None:
            return self._everyone
        values = [value for key, value in metadata if key == "authorization"]
        if not values and self._certificates:
            return None
        return self._in_time(self._of_header(values))

    def by_certificate(self, auth_context: Mapping[str, Sequence[bytes]]) -> Identity:
        """Recognise a caller by the client certificate that gRPC has verified.

        Raises:
            UnauthenticatedError: It is nobody's, or has expired.
        """
        names: Any = auth_context.get("x509_subject_alternative_name") or auth_context.get(
            "x509_common_name", ()
        )
        for name in names:
            found = self._certificates.get(name.decode("utf-8", "replace"))
            if found is not None:
                return self._in_time(found)
        raise UnauthenticatedError("The call has no credentials that are known here")

    def admit(self, identity: Identity, role: Role | None) -> None:
        """Hold a caller to its roles, then to its rate.

        Args:
            identity: Who calls.
            role: What the method takes; None: being a caller is enough.

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

    def _of_header(self, values: Sequence[str | bytes]) -> Identity:
        if not values:
            raise UnauthenticatedError("The call has no credentials")
        header = values[0]
        if len(values) > 1 or not isinstance(header, str) or len(header) > _MAX_TOKEN_LENGTH:
            raise UnauthenticatedError("The call's credentials cannot be read")
        token = header[len(_SCHEME) :]
        if header[: len(_SCHEME)].lower() != _SCHEME or not token:
            raise UnauthenticatedError("The call's credentials cannot be read")
        # Who was recognised once is found under a keyed hash, which tells a timer nothing.
        place = blake2b(token.encode(), key=self._secret, digest_size=32).digest()
        found = self._recognised.get(place) or self._compare(token_hash(token))
        if found is None:
            raise UnauthenticatedError("The call's token is not known here")
        self._recognised[place] = found
        return found

    def _compare(self, digest: bytes) -> Identity | None:
        """Compare with every token of every caller, whichever of them fits."""
        found = None
        for identity in self._identities:
            for one in identity.caller.token_hashes:
                if hmac.compare_digest(one, digest):
                    found = identity
        return found

    def _in_time(self, identity: Identity) -> Identity:
        expires_s = identity.caller.expires_s
        if expires_s is not None and self._clock() >= expires_s:
            raise UnauthenticatedError("The call's credentials have expired")
        return identity

    def _bucket(self, caller: Caller, before: Bucket | None) -> Bucket | None:
        rate = self._rate if caller.rate is None else caller.rate
        burst = self._burst if caller.burst is None else caller.burst
        if not rate:
            return None
        bucket = Bucket(rate, burst or max(rate, 1), filled_at=self._steady_clock())
        same = before is not None and (before.rate, before.burst) == (bucket.rate, bucket.burst)
        return before if same else bucket
