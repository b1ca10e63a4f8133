"""The three APIs of batches, made together."""

from proxy.batches.batches_api import BatchesApi
from proxy.batches.files_api import FilesApi
from proxy.batches.keeper import Keeper
from proxy.batches.message_batches_api import MessageBatchesApi
from proxy.kernel.clock import Clock
from proxy.kernel.journal import Journal


def batch_apis(journal: Journal, clock: Clock, keeper: Keeper) -> tuple[FilesApi, BatchesApi, MessageBatchesApi]:
    """Return who answers the routes of `proxy.batches.routes`."""
    return (
        FilesApi(journal, clock),
        BatchesApi(journal, clock, keeper.kick),
        MessageBatchesApi(journal, clock, keeper.kick),
    )
