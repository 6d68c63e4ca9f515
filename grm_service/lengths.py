"""The characters of texts, by which the memory and time that they take are estimated."""

from __future__ import annotations

from collections.abc import Iterable

from grm_service.types import Message, Principle, Task


def messages_chars(messages: Iterable[Message]) -> int:
    """Return the characters of messages."""
    return sum(len(message.content) for message in messages)


def principles_chars(principles: Iterable[Principle]) -> int:
    """Return the characters of principles."""
    return sum(len(principle.text) for principle in principles)


def task_chars(task: Task) -> int:
    """Return the characters of a task's conversation, responses and reference."""
    return messages_chars(task.messages) + sum(map(len, task.responses)) + len(task.reference or "")
