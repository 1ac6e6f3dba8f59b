"""Rates: how many calls per second a caller may make."""

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` calls per second, up to `burst` at once.

    Raises:
        ValueError: The rate is not above 0, or the burst is below 1.
    """

    rate: float
    burst: float
    level: float = 0
    filled_at: float = 0

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.burst < 1:
            raise ValueError("A rate must be above 0 and a burst at least 1.")
        self.level = self.burst

    def take(self, now: float) -> float:
        """Count a call.

        Args:
            now: The time in seconds, by a clock that never goes backwards.

        Returns:
            0 if the call is allowed, otherwise the seconds until it will be.
        """
        self.level = min(self.burst, self.level + (now - self.filled_at) * self.rate)
        self.filled_at = now
        if self.level >= 1:
            self.level -= 1
            return 0
        return (1 - self.level) / self.rate

    def owe(self, calls: int) -> None:
        """Count calls even beyond the burst: later calls have to wait longer."""
        self.level -= calls
