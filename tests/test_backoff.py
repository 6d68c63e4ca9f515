from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from grm_service import backoff


def test_retry_after_seconds_and_dates():
    assert backoff.retry_after_s("7") == 7
    in_20_s = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 18 < backoff.retry_after_s(in_20_s) <= 20
    assert backoff.retry_after_s(format_datetime(datetime.now(UTC) - timedelta(seconds=20))) == 0
    assert backoff.retry_after_s("soon") == 0
    assert backoff.retry_after_s(None) == 0


def test_pauses_double_with_jitter():
    """They are never shorter than the server requires."""
    drawn = {backoff.pause_s(0.0, attempt=2) for _ in range(50)}
    assert len(drawn) > 10
    assert all(1.0 <= pause_s <= 1.25 for pause_s in drawn)
    assert backoff.pause_s(7.0, attempt=1) >= 7.0
    assert backoff.pause_s(0.0, attempt=30) <= 12.5
