"""Passwords in URLs, hidden wherever a configuration leaves the study's folder."""

from __future__ import annotations

import re


def without_passwords(text: str) -> str:
    """The text, with *** for the passwords in its URLs."""
    text = re.sub(r"(://[^\s:/@]*):\S*@", r"\1:***@", text)
    return re.sub(r"(?i)([?&](?:password|passwd|token)=)[^\s&'\"]+", r"\1***", text)
