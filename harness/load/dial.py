"""Opens SMTP sessions for links: the one place where the load knows the mail clients' interface for sending."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from harness.load.messages import Mail
from harness.load.mta import Host, Link
from harness.load.params import Params
from harness.load.spec import LoadSpec
from harness.mail.replies import RecipientResult, of_loss
from harness.mail.smtp import ConnectError, Endpoint, Envelope, SessionOptions, SmtpSession, Timings, connect
from harness.mail.tls import client_context
from harness.model.outcome import Outcome, Stage
from harness.support.clock import now_ns


class Dialler:
    """Makes the sessions of every population.

    :param passwords: address → password, for submission.
    """

    def __init__(self, host: Host, spec: LoadSpec, params: Params, passwords: Mapping[str, str]) -> None:
        self._host, self._spec, self._params, self._passwords = host, spec, params, passwords
        self._tls = client_context(spec.ca_file) if any(a.tls != "none" for a in spec.endpoints.values()) else None
        self._tasks: set[asyncio.Task[None]] = set()

    def mx(self, link: Link) -> None:
        """A session to the MX for an outside MTA."""
        self._dial(link, "mx", f"mta{link.mta.sender + 1}.example.net", "")

    def submission(self, link: Link) -> None:
        """An authenticated session for the user whose client this is."""
        self._dial(link, "submission", "[192.0.2.1]", self._host.messages.senders[link.mta.sender])

    def _dial(self, link: Link, role: str, hello: str, user: str) -> None:
        access, client, scaled = self._spec.endpoints[role], link.mta.client, self._seconds
        outlet = _Outlet(self._host, link)
        endpoint = Endpoint(access.host_for(client), access.port, tls=access.tls, proxy_client=client if access.proxy else "")
        options = SessionOptions(
            hello=hello, username=user, password=self._passwords[user] if user else "", tls_context=self._tls,
            connect_s=scaled(self._params.connect_wait_s), step_s=scaled(self._params.step_wait_s),
            dot_s=scaled(self._params.dot_wait_s), on_step=outlet.on_step,
        )
        task = self._host.loop.create_task(outlet.open(endpoint, options))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _seconds(self, wait_s: float) -> float:
        return self._params.seconds(wait_s, self._spec.time_scale)


class _Outlet:
    """One SMTP session on behalf of a link: the session's handler, and the link's Session."""

    __slots__ = ("_begun_ns", "_connected", "_host", "_link", "_proto", "_ready", "_session")

    def __init__(self, host: Host, link: Link) -> None:
        self._host, self._link = host, link
        self._session: SmtpSession | None = None
        self._proto = link.mta.policy.proto.name.lower()
        self._begun_ns, self._ready, self._connected = now_ns(), False, False

    async def open(self, endpoint: Endpoint, options: SessionOptions) -> None:
        """Connect; a refusal is the end of the link's attempt."""
        written = self._host.loop.create_future()
        self._host.ledger.after_write(lambda: None if written.done() else written.set_result(None))
        await written
        self._begun_ns = now_ns()
        self._connected = True
        self._host.stats.counts.connections += 1
        try:
            self._session = await connect(self._host.loop, endpoint, options, self)
        except ConnectError as error:
            self._ended(of_loss(error.stage, str(error)))
        else:
            if self._link.closed:
                self._session.abort()  # the load ended meanwhile

    def send(self, mail: Mail) -> None:
        """Hand over one mail."""
        messages = self._host.messages
        assert self._session is not None
        self._session.send(Envelope(messages.sender_bytes(mail), messages.rcpt_bytes(mail), lambda: messages.render(mail), mail))

    def quit(self) -> None:
        """End the dialogue."""
        if self._session is not None:
            self._session.quit()

    def abort(self) -> None:
        """Cut the connection."""
        if self._session is not None:
            self._session.abort()

    def on_step(self, step: str, ns: int) -> None:
        """A step of the opening took ``ns``."""
        self._host.stats.time(self._proto, step, ns)

    def on_ready(self, session: SmtpSession) -> None:
        """The session may send."""
        self._session, self._ready = session, True
        self._host.stats.time(self._proto, "connect", now_ns() - self._begun_ns)
        if self._link.closed:
            session.abort()
        else:
            self._link.on_ready(self)

    def on_started(self, envelope: Envelope) -> None:
        """Nothing to do: the attempt is in the ledger since before the session was asked."""

    def on_result(self, envelope: Envelope, results: Sequence[RecipientResult], timings: Timings) -> None:
        """A transaction has ended."""
        steps = (("envelope", timings.started_ns, timings.envelope_ns), ("dot", timings.handed_ns, timings.ended_ns))
        for step, begin, end in steps:
            if begin and end:
                self._host.stats.time(self._proto, step, end - begin)
        self._time_mail(results)
        self._link.on_results(results)

    def on_closed(self, reason: str, refused: Sequence[Envelope], bad: RecipientResult | None) -> None:
        """The connection is over; a mail that was bound to it and not begun surely was not sent."""
        self._ended(bad or of_loss(Stage.MAIL, reason))

    def _ended(self, result: RecipientResult) -> None:
        if self._connected:
            self._connected = False
            self._host.stats.counts.connections -= 1
        mail = self._link.mail
        results = [result] * len(mail.rcpts) if mail is not None else []
        if self._link.closed:
            return
        if mail is not None:
            self._time_mail(results)
        if self._ready:
            self._link.on_closed(results)
        else:
            self._link.on_failed(results)

    def _time_mail(self, results: Sequence[RecipientResult]) -> None:
        bad = next((r for r in results if r.outcome is not Outcome.OK), None)
        error = "" if bad is None else f"{bad.stage.name} {bad.code or 'no reply'} {bad.enhanced}".strip()
        octets = len(self._link.mail.template.body) if self._link.mail is not None and bad is None else 0
        self._host.stats.time(self._proto, "mail", now_ns() - self._link.begun_ns, error=error, octets=octets)
