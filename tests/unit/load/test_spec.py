"""The load spec: there and back, what it refuses, and the guard on addresses."""

from __future__ import annotations

import pytest

from harness.errors import GuardRefused, UsageError
from harness.load.params import Params
from harness.load.spec import Access, LoadSpec


def spec(**changes) -> LoadSpec:
    base = LoadSpec("run", "1-a", 1, "friday", {"mx": Access(("127.0.0.1", "::1"), 2525, "none", True)}, {"steady_rate_per_s": 2}, "/tmp", users=3)
    return base.replace(**changes)


def test_there_and_back():
    assert LoadSpec.from_json(spec(allow=("10.0.0.0/8",)).to_json()) == spec(allow=("10.0.0.0/8",))


def test_the_password_is_not_in_its_repr():
    assert "geheim" not in repr(spec(password="geheim"))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"endpoints": {}}', '{"endpoints": {"mx": {"hosts": ["::1"], "port": 0}}}',
                                  '{"endpoints": {"mail": {"hosts": ["::1"], "port": 1}}}',
                                  '{"endpoints": {"mx": {"hosts": ["::1"], "port": 1, "tls": "ssl"}}}'])
def test_bad_json_is_refused(text):
    with pytest.raises(UsageError):
        LoadSpec.from_json(text)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "10.1.2.3", "no-such-host.invalid"])
def test_an_address_that_is_not_listed_is_refused(host):
    with pytest.raises(GuardRefused):
        spec(endpoints={"mx": Access((host,), 25)}, allow=("10.1.2.0/31",)).guarded()


def test_loopback_and_listed_addresses_pass_and_names_are_resolved():
    guarded = spec(endpoints={"mx": Access(("localhost",), 25), "imap": Access(("10.1.2.3",), 143)}, allow=("10.1.2.0/24",)).guarded()
    assert guarded.endpoints["mx"].hosts[0] in ("127.0.0.1", "::1")
    assert guarded.endpoints["imap"].hosts == ("10.1.2.3",)


def test_a_broken_allow_list_refuses():
    with pytest.raises(GuardRefused):
        spec(allow=("10.0.0/8",)).guarded()


def test_host_of_the_clients_family():
    access = spec().endpoints["mx"]
    assert (access.host_for("2001:db8::5"), access.host_for("198.51.100.7")) == ("::1", "127.0.0.1")
    assert Access(("127.0.0.1",), 25).host_for("2001:db8::5") == "127.0.0.1"


def test_accounts(tmp_path):
    assert spec(password="p").accounts()[0] == ("user1@example.org", "p")
    users = tmp_path / "users.csv"
    users.write_text("address,password\na@example.org,x\nb@example.org,\"y,z\"\n")
    assert spec(user_file=str(users)).accounts() == [("a@example.org", "x"), ("b@example.org", "y,z")]
    users.write_text("")
    with pytest.raises(UsageError):
        spec(user_file=str(users)).accounts()
    with pytest.raises(UsageError):
        spec(user_file=str(tmp_path / "none")).accounts()


@pytest.mark.parametrize(("params", "word"), [({"elastic_sender": 1}, "elastic_senders"), ({"reuse": 1}, "true or false"), ({"watchers": -1}, "from 0"),
                                              ({"watchers": True}, "from 0"), ({"ipv6_share": 1.5}, "between"), ({"steady_arrivals": 3}, "word")])
def test_wrong_parameters_are_refused(params, word):
    with pytest.raises(UsageError, match=word):
        Params.of(params)


def test_deadlines_shrink_with_the_time_scale_but_not_below_the_floor():
    params = Params(deadline_floor_s=10)
    assert (params.seconds(600, 1), params.seconds(600, 30), params.seconds(300, 60), params.seconds(5, 60)) == (600, 20, 10, 5)


def test_a_scheme_says_implicit_tls():
    from harness.load.options import access

    assert access("imaps://127.0.0.1:993", "none").tls == access("submissions://[::1]:465", "starttls").tls == "implicit"
    assert access("smtp://127.0.0.1:25", "starttls").tls == "starttls"


@pytest.mark.parametrize(("given", "says"), [
    ({"dsn_notify": "SOMETIMES"}, "NEVER, or some of SUCCESS,FAILURE,DELAY"), ({"dsn_notify": "NEVER,DELAY"}, "NEVER, or some of"),
    ({"dsn_notify": "DELAY,DELAY"}, "NEVER, or some of"), ({"dsn_ret": "HEADERS"}, "FULL or HDRS"), ({"smtputf8_share": 2}, "between 0 and 1"),
    ({"delete_share": 0.6, "move_share": 0.5}, "more than 1 together"),
])
def test_parameters_that_say_nothing_are_refused(given, says):
    with pytest.raises(UsageError, match=says):
        Params.of(given)


@pytest.mark.parametrize("notify", ["NEVER", "DELAY", "SUCCESS,FAILURE,DELAY"])
def test_notifications_by_name(notify):
    assert Params.of({"dsn_notify": notify}).dsn_notify == notify


def test_readers_that_change_their_mailboxes_need_one_each():
    readers = {"imap_users": 3, "pop_users": 2, "watchers": 4}
    assert Params.of(readers).crowded(5) == ""
    assert Params.of({**readers, "append_share": 0.5}).crowded(5) == ""
    assert Params.of({**readers, "move_share": 0.5}).crowded(9) == ""
    assert "9 with the watchers, but there are 8" in Params.of({**readers, "delete_share": 0.1}).crowded(8)
