"""Opens SMTP sessions for links: the one place where the load knows the mail clients' interface for sending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from harness.load.messages import Mail
from harness.load.mta import Host, Link
from harness.load.params import Params
from harness.load.spec import LoadSpec
from harness.mail.options import PLAIN_MAIL
from harness.mail.replies import RecipientResult, of_loss
from harness.mail.smtp import Endpoint, Envelope, MailOptions, SessionOptions, SmtpSession, Timings, start
from harness.mail.tls import client_context
from harness.model.outcome import MailFlag, Outcome, Proto, Stage
from harness.support.clock import now_ns


class Dialler:
    """Makes the sessions of every population.

    :param passwords: address → password, for submission.
    """

    def __init__(self, host: Host, spec: LoadSpec, params: Params, passwords: Mapping[str, str]) -> None:
        self._host, self._spec, self._passwords = host, spec, passwords
        self._tls = client_context(spec.ca_file) if any(a.tls != "none" for a in spec.endpoints.values()) else None
        self._connect_s, self._step_s, self._dot_s = (
            params.seconds(wait_s, spec.time_scale) for wait_s in (params.connect_wait_s, params.step_wait_s, params.dot_wait_s)
        )
        self._by_proto: dict[Proto, _Steps] = {}
        self._wanted = Wanted.of(params)
        self._targets: dict[tuple[str, int], tuple[Endpoint, SessionOptions]] = {}

    def mx(self, link: Link) -> None:
        """A session to the MX for an outside MTA."""
        self._dial(link, "mx", f"mta{link.mta.sender + 1}.example.net", "")

    def submission(self, link: Link) -> None:
        """An authenticated session for the user whose client this is."""
        self._dial(link, "submission", "[192.0.2.1]", self._host.messages.senders[link.mta.sender])

    def _dial(self, link: Link, role: str, hello: str, user: str) -> None:
        steps = self._steps(link.mta.policy.proto)
        target = self._targets.get((role, link.mta.sender)) or self._target(link, role, hello, user, steps)
        self._host.ledger.after_write(partial(_Outlet(self._host, link, steps).open, *target))

    def _target(self, link: Link, role: str, hello: str, user: str, steps: _Steps) -> tuple[Endpoint, SessionOptions]:
        """Where and how a sender connects; made once."""
        access, client, policy = self._spec.endpoints[role], link.mta.client, link.mta.policy
        host = access.host_for(client)
        endpoint = Endpoint(
            host, access.port, tls=access.tls, proxy_client=client if access.proxy else "", source=self._spec.source_for(host, link.mta.sender),
        )
        options = SessionOptions(
            hello=hello, username=user, password=self._passwords[user] if user else "", tls_context=self._tls,
            connect_s=self._connect_s, step_s=self._step_s, dot_s=self._dot_s, on_step=partial(self._host.stats.time, steps.proto),
            after_write=self._host.ledger.after_write, ahead=policy.ahead and policy.mails_per_connection > 1,
        )
        self._targets[role, link.mta.sender] = endpoint, options
        return endpoint, options

    def _steps(self, proto: Proto) -> _Steps:
        made = self._by_proto.get(proto)
        if made is None:
            made = self._by_proto[proto] = _Steps(self._host, proto.name.lower(), self._wanted)
        return made


@dataclass(frozen=True)
class Wanted:
    """What the scenario asks for beside plain mail.

    :param extensions: of SMTP, of which an event tells that a server does not offer them.
    """

    extensions: frozenset[str] = frozenset()
    notify: str = ""
    ret: str = ""

    @classmethod
    def of(cls, params: Params) -> Wanted:
        """From a scenario's parameters."""
        shares = {"SMTPUTF8": params.smtputf8_share, "DSN": params.dsn_share}
        return cls(frozenset(name for name, share in shares.items() if share), params.dsn_notify, params.dsn_ret)

    def options(self, flags: int, envid: str) -> MailOptions:
        """Of a mail with these flags; ``envid`` comes back in what is reported of it."""
        utf8 = bool(flags & MailFlag.SMTPUTF8)
        if flags & MailFlag.DSN:
            return MailOptions(eight_bit=utf8, smtputf8=utf8, ret=self.ret, envid=envid, notify=self.notify)
        return MailOptions(eight_bit=True, smtputf8=True) if utf8 else PLAIN_MAIL


class _Steps:
    """What the sessions of one protocol share: the timings of its steps, looked up once, and what is asked of servers."""

    __slots__ = ("_host", "connect", "dot", "envelope", "mail", "messages", "plain", "proto", "wanted")

    def __init__(self, host: Host, proto: str, wanted: Wanted) -> None:
        self._host, self.proto, self.wanted = host, proto, wanted
        self.messages = host.messages
        self.plain = not wanted.extensions and host.messages.ready  #: nothing of a mail need be looked at
        timing = host.stats.timing
        self.connect, self.envelope, self.dot, self.mail = (timing(proto, step) for step in ("connect", "envelope", "dot", "mail"))

    def greeted(self, offered: Mapping[str, str]) -> None:
        """A server has named its extensions."""
        for extension in self.wanted.extensions - offered.keys():
            self._host.ledger.not_offered(self.proto, extension)


class _Outlet:
    """One SMTP session on behalf of a link: the session's handler, and the link's Session."""

    __slots__ = ("_begun_ns", "_connected", "_host", "_link", "_ready", "_session", "_steps")

    def __init__(self, host: Host, link: Link, steps: _Steps) -> None:
        self._host, self._link, self._steps = host, link, steps
        self._session: SmtpSession | None = None
        self._begun_ns, self._ready, self._connected = now_ns(), False, False

    def open(self, endpoint: Endpoint, options: SessionOptions) -> None:
        """Connect; a refusal is the end of the link's attempt."""
        if self._link.closed:
            return  # the load ended meanwhile
        self._begun_ns = now_ns()
        self._connected = True
        self._host.stats.counts.connections += 1
        self._link.session = self
        self._session = start(self._host.loop, endpoint, options, self)

    @property
    def usable(self) -> bool:
        """The session takes another mail."""
        return self._session is not None and self._session.can_follow

    def send(self, mail: Mail) -> None:
        """Hand over one mail."""
        assert self._session is not None
        self._session.send(self._envelope(mail))

    def following(self) -> Envelope | None:
        """What the session sends behind the dot."""
        mail = self._link.following()
        return None if mail is None else self._envelope(mail)

    def quit(self) -> None:
        """End the dialogue."""
        if self._session is not None:
            self._session.quit()

    def abort(self) -> None:
        """Cut the connection."""
        if self._session is not None:
            self._session.abort()

    def on_ready(self, session: SmtpSession) -> None:
        """The session may send."""
        self._ready = True
        self._steps.connect.add(now_ns() - self._begun_ns)
        if self._steps.wanted.extensions:
            self._steps.greeted(session.extensions)
        if self._link.closed:
            session.abort()
        else:
            self._link.on_ready(self)

    def on_started(self, envelope: Envelope) -> None:
        """Nothing to do: the attempt is in the ledger since before the session was asked."""

    def on_result(self, envelope: Envelope, results: Sequence[RecipientResult], timings: Timings) -> None:
        """A transaction has ended."""
        steps, ended = self._steps, timings.ended_ns
        if timings.envelope_ns:
            steps.envelope.sample(timings.envelope_ns - timings.started_ns)
            if timings.handed_ns:
                steps.dot.sample(ended - timings.handed_ns)
        mail = envelope.token
        if len(results) == 1 and results[0].outcome is Outcome.OK:
            steps.mail.sample(ended - mail.begun_ns)
            steps.mail.octets += mail.template.octets
        else:
            self._time_mail(mail, results, ended)
        self._link.on_results(results, ended)

    def on_closed(self, reason: str, refused: Sequence[Envelope], bad: RecipientResult | None) -> None:
        """The connection is over; a mail that was bound to it and not begun surely was not sent."""
        if self._connected:
            self._connected = False
            self._host.stats.counts.connections -= 1
        if self._link.closed:
            return
        self._session = None
        result = bad or of_loss(Stage.MAIL, reason)
        for mail in (self._link.mail, self._link.behind):
            if mail is not None:
                self._time_mail(mail, [result], now_ns())
        if self._ready:
            self._link.on_closed(result)
        else:
            self._link.on_failed(result)

    def _envelope(self, mail: Mail) -> Envelope:
        steps = self._steps
        messages, wanted = steps.messages, steps.wanted
        sender, recipients = messages.addresses(mail)
        if steps.plain:
            return Envelope(sender, recipients, partial(messages.wire, mail), mail, PLAIN_MAIL, True)
        ready = messages.ready
        options = wanted.options(mail.flags, messages.trace(mail)) if wanted.extensions else PLAIN_MAIL
        return Envelope(sender, recipients, partial(messages.wire if ready else messages.render, mail), mail, options, ready)

    def _time_mail(self, mail: Mail, results: Sequence[RecipientResult], now: int) -> None:
        bad = next((r for r in results if r.outcome is not Outcome.OK), None)
        if bad is None:
            self._steps.mail.sample(now - mail.begun_ns)
            self._steps.mail.octets += mail.template.octets
            return
        error = f"{bad.stage.name} {bad.code or 'no reply'} {bad.enhanced}".strip()
        self._host.stats.time(self._steps.proto, "mail", now - mail.begun_ns, error=error)
