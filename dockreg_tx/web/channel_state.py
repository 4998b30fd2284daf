"""Where a connection keeps what is its own: ten thousand of them wait, each as small as can be."""

from __future__ import annotations


class ChannelState:
    """Keeps the attributes of a ``RegistryChannel`` out of its dict.

    Together with Twisted's they are more than thirty; a dict of so many shares its keys with no other, and
    takes 2 KiB.
    """

    __slots__ = (
        "_deadline",
        "_discarded_bytes",
        "_exchange",
        "_has_heard",
        "_header_bytes",
        "_is_body_timed",
        "_is_closing",
        "_is_deaf",
        "_is_header_timed",
        "_is_next_waiting",
        "_is_registered",
        "_limits",
        "_to_start",
        "_unmoved_bytes",
        "_valve",
        "reader",
    )
