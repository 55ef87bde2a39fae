"""The databases that tests of studies run on."""

from tests.search.databases import postgres_url, url

__all__ = ["postgres_url", "url"]
