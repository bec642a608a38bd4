"""Several messages as one: whole, in order, within their limits."""

import msgspec

from headrace.bundles import BUNDLE_BYTES_MAX, BUNDLE_MAX, bundle, bundles


def test_one_alone_is_its_own_message() -> None:
    assert list(bundles([b'{"n":1}'])) == [b'{"n":1}'] == [bundle([b'{"n":1}'])]
    assert list(bundles([])) == []


def test_what_is_many_comes_whole_and_in_order_in_messages_of_at_most_so_many() -> None:
    told = [b'{"n":%d}' % number for number in range(2 * BUNDLE_MAX + 1)]
    made = list(bundles(told))
    assert len(made) == 3
    read = [part for body in made[:2] for part in msgspec.json.decode(body, type=list[msgspec.Raw])]
    assert [bytes(part) for part in read] + [made[2]] == told


def test_a_message_is_no_larger_than_the_limit_unless_it_brings_one_alone() -> None:
    small, large = b'"' + b"s" * (BUNDLE_BYTES_MAX // 3) + b'"', b'"' + b"l" * BUNDLE_BYTES_MAX + b'"'
    made = list(bundles([small, small, small, large, small]))
    assert [len(msgspec.json.decode(body)) if body.startswith(b"[") else 1 for body in made] == [2, 1, 1, 1]
    assert made[2] == large
