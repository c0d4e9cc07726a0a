"""Where studies are kept, databases that go away for a while, and who drives a study."""

from explorer.search.storage.storages import journal, open_study, redacted, shared_storage

__all__ = ["journal", "open_study", "redacted", "shared_storage"]
