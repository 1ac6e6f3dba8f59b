from support.transports import transport

__all__ = ["transport"]
