"""Fixed-size binary records of the ledger, as numpy dtypes. One row per mail and recipient.

Times are nanoseconds of harness.support.clock. ``mail`` is the mail's number in this arm (1, 2, …; the trace header holds
it), ``rcpt`` an index into the ``recipients`` event of the same arm. Enhanced codes are packed: 4.7.1 is 40701.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: A mail that the load means to hand over. ``sha``: first 16 bytes of the SHA-256 of the canonical form (DESIGN.md).
OFFER = np.dtype(
    [("mail", "<u8"), ("t_due", "<u8"), ("rcpt", "<u4"), ("sender", "<u4"), ("size", "<u4"),
     ("population", "u1"), ("flags", "u1"), ("pad", "<u2"), ("sha", "V16")]
)
#: Written before the attempt's first byte. An INVOKE without DONE means INFO.
INVOKE = np.dtype([("mail", "<u8"), ("t", "<u8"), ("rcpt", "<u4"), ("attempt", "<u2"), ("proto", "u1"), ("pad", "u1")])
#: How the attempt ended for this recipient.
DONE = np.dtype(
    [("mail", "<u8"), ("t", "<u8"), ("rcpt", "<u4"), ("attempt", "<u2"), ("proto", "u1"), ("outcome", "u1"),
     ("stage", "u1"), ("deferral", "u1"), ("code", "<u2"), ("enhanced", "<u4")]
)
#: One operation of a reading user.
USEROP = np.dtype(
    [("t_start", "<u8"), ("t_end", "<u8"), ("user", "<u4"), ("bytes", "<u4"), ("proto", "u1"), ("op", "u1"),
     ("outcome", "u1"), ("pad", "u1"), ("code", "<u4")]
)

#: Block type byte of each record type in a log (``store.log``). 1 is JSON lines.
BLOCK_TYPES: dict[int, np.dtype[np.void]] = {2: OFFER, 3: INVOKE, 4: DONE, 5: USEROP}


@lru_cache(maxsize=4096)
def pack_enhanced(text: str) -> int:
    """``"4.7.1"`` → 40701; 0 for anything else. Source: RFC 3463."""
    parts = text.split(".")
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) <= 3 for p in parts):
        return 0
    major, subject, detail = (int(p) for p in parts)
    return major * 10000 + min(subject, 99) * 100 + min(detail, 99)
