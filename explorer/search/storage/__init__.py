"""Where studies are kept, databases that go away for a while, and who drives a study."""

from explorer.search.storage.journal_file import journal
from explorer.search.storage.notes import write_notes
from explorer.search.storage.storages import open_study, redacted, shared_storage

__all__ = ["journal", "open_study", "redacted", "shared_storage", "write_notes"]
