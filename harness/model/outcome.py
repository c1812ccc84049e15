"""How one attempt to hand over mail for one recipient ended."""

from __future__ import annotations

from enum import IntEnum


class Outcome(IntEnum):
    """``OK``: acknowledged. ``FAIL``: surely did not happen. ``INFO``: unknown (also: never completed)."""

    OK = 1
    FAIL = 2
    INFO = 3


class Proto(IntEnum):
    """Protocol of an operation. ``SUBMISSION`` is SMTP to ports 587/465 with authentication."""

    SMTP = 1
    SUBMISSION = 2
    LMTP = 3
    IMAP = 4
    POP3 = 5


class Stage(IntEnum):
    """Where in an SMTP/LMTP dialogue an attempt ended (RFC 5321)."""

    CONNECT = 1
    BANNER = 2
    EHLO = 3
    TLS = 4
    AUTH = 5
    MAIL = 6
    RCPT = 7
    DATA = 8
    BODY = 9  #: the message itself, up to but without its last octet
    DOT = 10  #: after the last octet of the message was handed to the transport
    QUIT = 11


class Deferral(IntEnum):
    """Class of a 4xx reply. Only ``PLANNED_LIMIT`` is rate control."""

    NONE = 0
    PLANNED_LIMIT = 1
    GREYLIST = 2
    SYSTEM = 3


class UserOp(IntEnum):
    """Operations of reading users."""

    LOGIN = 1
    SELECT = 2
    FETCH = 3
    SEARCH = 4
    STORE = 5
    APPEND = 6
    MOVE = 7
    EXPUNGE = 8
    IDLE = 9
    LOGOUT = 10
    UIDL = 11
    RETR = 12
    DELE = 13
    QUIT = 14
    CONNECT = 15


class Population(IntEnum):
    """Who offered a mail."""

    ELASTIC = 1  #: outside MTAs with a backlog that retry (the burst)
    STEADY = 2  #: ordinary mail at a steady rate from well-behaved senders
    SUBMITTER = 3  #: authenticated users
    OUTSIDE = 4  #: anything offered by other means (canaries)
    APPENDER = 5  #: users who put a mail into a mailbox of their own (IMAP APPEND)


class MailFlag(IntEnum):
    """Bits of ``OFFER.flags``."""

    GTUBE = 1
    EICAR = 2
    NULL_SENDER = 4
    TO_INTERNET = 8
    SMTPUTF8 = 16  #: internationalised: to be sent with SMTPUTF8 (RFC 6531) or not at all
    DSN = 32  #: with parameters of RFC 3461 where the server offers DSN
