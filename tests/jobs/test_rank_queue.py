"""What is dealt to ranks."""

from __future__ import annotations

from h5flow.jobs.rank_queue import Dealer


def test_a_dealer_deals_each_number_once_until_a_result_ends_it():
    results = []

    def receive(result):
        results.append(result)
        return result == "enough"

    dealer = Dealer(range(5), receive)
    assert [dealer.take(None), dealer.take("one"), dealer.take(None)] == [0, 1, 2]
    assert dealer.take("enough") is None
    assert dealer.take(None) is None
    assert results == ["one", "enough"]
