"""The rule of who reaches an entry of the journal: the caller that it belongs to, and nobody else."""

from proxy.kernel.journal import Entry, Journal, Kind


async def own_entry(journal: Journal, owner: str, name: str | None, *kinds: Kind) -> Entry | None:
    """Return the entry of that id where it is one of these kinds and belongs to `owner` (`StoredCaller.owner`).

    None where there is no such entry, so that nobody learns of another's. Raises StoreUnavailable.
    """
    entry = await journal.get(name) if name is not None else None
    return entry if entry is not None and entry.kind in kinds and entry.caller.owner == owner else None
