"""The query tree: retries are told from distinct queries, and nothing on the wire is lost or counted twice."""

from __future__ import annotations

from dataclasses import replace

from harness.model.dns import DnsRecord, Party
from harness.model.dnstree import Kind, query_tree
from tests.unit.dns.wire import answer, query

NAME = "mx.example.net"
OTHER = Party("192.0.2.54", 53)


def kinds(records: list[DnsRecord], name: str = NAME) -> list[tuple[str, str, str]]:
    return [(a.query.qname, a.kind.value, a.outcome) for a in query_tree(records, name).attempts]


def test_names_types_and_answers_in_the_order_of_the_wire():
    a1, aaaa1 = query(f"{NAME}.lan.", id=1), query(f"{NAME}.lan.", "AAAA", ms=1, id=2)
    a2, aaaa2 = query(f"{NAME}.", ms=5, id=3), query(f"{NAME}.", "AAAA", ms=6, id=4)
    records = [a1, aaaa1, answer(aaaa1, "NXDOMAIN"), answer(a1, "NXDOMAIN", ms=3), a2, aaaa2, answer(a2), answer(aaaa2, answers=0)]
    tree = query_tree(reversed(records), NAME)
    assert [(n.name, [t.qtype for t in n.types]) for n in tree.names] == [(f"{NAME}.lan.", ["A", "AAAA"]), (f"{NAME}.", ["A", "AAAA"])]
    assert [a.outcome for a in tree.attempts] == ["NXDOMAIN", "NXDOMAIN", "NOERROR", "NODATA"]
    assert (tree.queries, tree.distinct, tree.count(Kind.RETRY), tree.unanswered, tree.strays) == (4, 4, 0, 0, ())


def test_the_same_packet_again_is_a_retry_and_no_distinct_query():
    first = query(f"{NAME}.")
    again = replace(first, t_ns=5_000_000_000)
    tree = query_tree([first, again, answer(again)], NAME)
    assert (tree.queries, tree.distinct, tree.count(Kind.RETRY)) == (2, 1, 1)
    assert tree.unanswered == 1


def test_a_failed_answer_is_followed_by_a_retry_and_a_good_one_by_another_look_up():
    first, second, third = query(f"{NAME}.", id=1), query(f"{NAME}.", ms=9, id=2, server=OTHER), query(f"{NAME}.", ms=20, id=3)
    assert [k for _, k, _ in kinds([first, answer(first, "SERVFAIL"), second, answer(second), third, answer(third)])] == ["first", "retry", "again"]


def test_side_by_side_to_another_server_is_parallel_but_later_is_a_retry():
    first = query(f"{NAME}.")
    assert kinds([first, query(f"{NAME}.", ms=1, id=2, server=OTHER)])[1][1] == "parallel"
    assert kinds([first, query(f"{NAME}.", ms=5000, id=2, server=OTHER)])[1][1] == "retry"


def test_tcp_after_a_truncated_answer_is_its_own_kind():
    udp = query(f"{NAME}.", "TXT")
    tcp = query(f"{NAME}.", "TXT", ms=5, id=9, transport="tcp")
    tree = query_tree([udp, answer(udp, truncated=True), tcp, answer(tcp)], NAME)
    assert [(a.kind, a.outcome) for a in tree.attempts] == [(Kind.FIRST, "truncated"), (Kind.TCP, "NOERROR")]
    assert [t.transport for t in tree.names[0].types[0].transports] == ["udp", "tcp"]


def test_one_truncated_answer_moves_both_types_to_tcp():
    a, aaaa = query(f"{NAME}.", id=1), query(f"{NAME}.", "AAAA", id=2)
    over = [query(f"{NAME}.", t, ms=5, id=i, transport="tcp") for i, t in ((3, "A"), (4, "AAAA"))]
    late = answer(aaaa, truncated=True, ms=9)
    tree = query_tree([a, aaaa, answer(a, truncated=True), *over, *map(answer, over), late], NAME)
    assert (tree.count(Kind.TCP), tree.count(Kind.RETRY)) == (2, 0)
    before = query_tree([a, aaaa, *over, *map(answer, over), answer(a, truncated=True, ms=9)], NAME)
    assert before.count(Kind.TCP) == 0  # nothing was truncated yet when TCP was used


def test_answers_without_a_query_are_strays():
    asked = query(f"{NAME}.")
    wrong = replace(answer(asked), qname="bank.example.", id=1)
    tree = query_tree([asked, answer(asked), answer(asked, ms=2), wrong], NAME)
    assert len(tree.strays) == 2
    assert tree.queries == 1


def test_other_names_are_counted_apart():
    tree = query_tree([query("www.example.net."), query(f"x{NAME}."), query(f"{NAME}.")], NAME)
    assert (tree.queries, tree.others) == (1, 2)


def test_a_trailing_dot_takes_the_name_itself_only_and_case_does_not_matter():
    records = [query("MX.Example.NET."), query(f"{NAME}.lan.", id=2)]
    assert query_tree(records, f"{NAME}.").queries == 1
    assert query_tree(records, NAME).queries == 2
    assert query_tree(records, NAME).names[0].name == f"{NAME}."


def test_nothing_is_an_empty_tree():
    assert query_tree([], NAME).queries == 0
