"""Clients for SMTP, LMTP, IMAP and POP3 on asyncio protocols, made for load: quick, bounded, exact about what happened.

========================  =====================================================================================
``replies``               every ending of an attempt → outcome, stage, class of deferral, per recipient
``smtp``                  ``await connect(loop, Endpoint, SessionOptions, handler) -> SmtpSession``; callbacks
``imap``, ``pop3``        ``await ImapClient.open(...)``, ``await PopClient.open(...)``; coroutines
``tls``                   ``client_context(ca_file)``: one shared SSLContext per CA
``proxy``                 PROXY v2 header with a client address per simulated sender
``asking``                ``Closed`` (an OSError: over, unknown) and ``Refused`` (the server said no) of IMAP and POP3
``link``, ``wire``        connection and bounded readers of lines, replies and literals
========================  =====================================================================================

Sending (SMTP, LMTP)::

    class Handler:
        def on_ready(self, session): session.send(Envelope(b"a@example.net", [b"b@example.org"], body, token=1))
        def on_started(self, envelope): ...                      # before the transaction's first byte
        def on_result(self, envelope, results, timings): ...     # one RecipientResult per recipient, in order
        def on_closed(self, reason, refused, bad): ...           # refused: envelopes never begun; bad: why it never got ready

    session = await connect(loop, Endpoint("127.0.0.1", 25), SessionOptions(hello="mx.example.net"), Handler())

A peer that lies, floods, falls silent or goes away ends in a result and in ``on_closed``, never in an exception from a callback.
"""
