"""Stands in for the SSH library, of which docker-py's test helpers name one class and use nothing over a socket."""


class Channel:
    """Never made here: no test goes over SSH."""
