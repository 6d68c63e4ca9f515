"""Log lines without keys, control characters or excessive length."""

import logging
import secrets

import pytest

from grm_service.log_lines import MAX_CHARS, SAFE_LINES

KEY = "grm_" + secrets.token_urlsafe(32)


def logged(message, *arguments, error=None):
    info = None if error is None else (type(error), error, None)
    record = logging.LogRecord("test", logging.ERROR, "file", 1, message, arguments, info)
    assert SAFE_LINES.filter(record)
    return logging.Formatter("%(message)s").format(record)


@pytest.mark.parametrize("around", ["{}", "AAAA{}", "/t/{}/v1", "?x={}&y={}", "Bearer {}"])
def test_keys_are_removed(around):
    line = logged("%s and more", around.format(KEY, KEY))
    assert KEY[4:] not in line
    assert line.endswith("and more")
    assert KEY[4:] not in logged("failed", error=ValueError(around.format(KEY, KEY)))


def test_keys_are_removed_before_the_cut():
    line = logged("%s", "x" * (MAX_CHARS // 2 - 20) + KEY + "y" * MAX_CHARS)
    assert KEY[4:10] not in line


def test_lines_are_bounded():
    assert len(logged("B" * 10**6)) < MAX_CHARS + 100
    shortened = logged("failed", error=ValueError("x" * 10**6 + " at the end"))
    assert len(shortened) < MAX_CHARS + 100
    assert shortened.endswith("at the end")


def test_metric_names_remain():
    assert logged("grm_requests_total of grm_service.api") == "grm_requests_total of grm_service.api"


def test_control_characters_are_escaped():
    assert logged("%s", "a\nINFO forged\x1b[31m\u2028") == "a\\nINFO forged\\x1b[31m\\u2028"
