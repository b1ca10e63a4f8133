"""The table of the proxy's own events: the log lines besides those of requests.

A field has one name, one type and one meaning in all lines, the request's included, so that a store of logs needs one
mapping. A test holds this table against every call of a logger in the code; the reference page and the JSON Schema are
made from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["string", "integer", "number", "array"]
"""A JSON type; an array is one of strings."""


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event.

    Attributes:
        name: its stable name.
        about: one sentence on when it is logged.
        fields: what is known of it, besides what all events have.
    """

    name: str
    about: str
    fields: tuple[str, ...] = ()


COMMON: Final[Mapping[str, tuple[Kind, str]]] = {
    "time": ("string", "When it happened, RFC 3339 in UTC with milliseconds."),
    "level": ("string", "`debug`, `info`, `warning`, `error` or `critical`."),
    "event": ("string", "What happened."),
    "schema": ("integer", "The version of this schema."),
    "logger": ("string", "The part of the proxy that says so."),
}
"""The fields of every event."""

FIELDS: Final[Mapping[str, tuple[Kind, str]]] = {
    "answer": ("string", "What was answered, from its beginning, with secrets masked."),
    "attempts": ("integer", "How often a request was begun."),
    "backend": ("string", "The backend's name."),
    "backends": ("array", "The backends' names."),
    "before": ("string", "The state it was in."),
    "by": ("string", "Who asked for it."),
    "chain": ("string", "The plugins, outermost first."),
    "client_address": ("string", "The caller's address."),
    "config_generation": ("integer", "Which configuration is in force now, counted from 1."),
    "credential": ("string", "The kind of credential."),
    "delay_s": ("number", "Seconds until the next attempt."),
    "detail": ("string", "The error in its own words, shortened."),
    "entries": ("integer", "How many deferred requests."),
    "entry": ("string", "The id of a deferred request or a batch."),
    "error": ("string", "What went wrong."),
    "error_code": ("string", "The error's code; see errors.md."),
    "exception": ("string", "The traceback, shortened at its beginning."),
    "file": ("string", "The file's path."),
    "files": ("integer", "How many files the process may have open."),
    "handshakes": ("integer", "How many TLS handshakes may run at once."),
    "identity": ("string", "Who called."),
    "issuer": ("string", "Who issues the tokens."),
    "keys": ("integer", "How many keys it has."),
    "left_out": ("integer", "How many events like this one were not logged since the last one, there being so many."),
    "lines": ("integer", "How many lines are missing."),
    "message": ("string", "What a library says."),
    "model": ("string", "The model, by its short canonical name."),
    "model_asked": ("string", "The model that was asked for, where another stands in for it."),
    "outcome": ("string", "How the request ended."),
    "per_address": ("integer", "How many connections of one address are taken."),
    "phase": ("string", "`startup` or `shutdown`."),
    "plugin": ("string", "The plugin's name in the policy file."),
    "policy": ("string", "The policy that applied."),
    "problem": ("string", "What is wrong, for people."),
    "problems": ("array", "Every mistake, with its place."),
    "prompt": ("string", "What was asked, up to its end, with secrets masked."),
    "proxies": ("integer", "How many proxies share the slots, this one included."),
    "reason": ("string", "Why."),
    "request_id": ("string", "The request's id; its line has the same."),
    "restart": ("array", "Settings that changed, and are in force only after a restart."),
    "seconds": ("number", "For how long."),
    "source": ("string", "Where the key comes from."),
    "state": ("string", "The state it is in now."),
    "states": ("array", "The states they were in."),
    "status": ("integer", "The status of the answer."),
    "store": ("string", "Where the store is, without credentials."),
    "tenant": ("string", "The tenant the caller belongs to."),
    "total": ("integer", "How many connections are taken."),
    "url": ("string", "Where it is asked for."),
    "worker": ("integer", "The number of the worker process, from 1; where one process serves, no line has it."),
    "worker_pid": ("integer", "The number that the system gave to the worker process."),
    "workers": ("integer", "How many worker processes there are to be."),
}
"""The fields that events may have."""

EVENTS: Final = (
    Event("message", "A library that the proxy uses logged something.", ("message",)),
    Event("request_refused", "A request was refused before any plugin saw it: its head breaks HTTP/1.1 or a bound, "
          "or a page of another origin or name sent it.",
          ("status", "reason", "error_code", "client_address", "left_out")),
    Event("connection_refused", "A connection was refused, or dropped in its TLS handshake, as there are too many.",
          ("reason", "error_code", "client_address", "left_out")),
    Event("connections_bounded", "How many connections are taken, and how many files may be open.",
          ("files", "total", "per_address", "handshakes")),
    Event("plugin_failed", "A plugin failed by a bug; the request was refused with 500.", ("request_id", "plugin")),
    Event("finisher_failed", "What was to be done at the end of a request failed.", ("request_id",)),
    Event("content", "A request is over whose words were to be kept, by the plugin `capture`.",
          ("request_id", "identity", "tenant", "policy", "model", "outcome", "prompt", "answer")),
    Event("retry", "A failed attempt is tried again.", ("request_id", "backend", "error", "delay_s")),
    Event("fallback", "Another model stands in for the one that was asked for.",
          ("request_id", "model_asked", "model")),
    Event("suspected_poison", "Two backends died without an answer when they got this request, one after the other. It "
          "is sent to no third one.",
          ("request_id", "identity", "client_address", "model", "backends", "error")),
    Event("context_model_made", "A model with another context was derived at a backend, by `parameters: {num_ctx: {v1: "
          "derive}}`.", ("backend", "model")),
    Event("context_model_failed", "Such a model was not made; for a minute its requests get the context of the host.",
          ("backend", "model", "error")),
    Event("backend_state", "A backend changed its state.", ("backend", "before", "state", "reason")),
    Event("watch_failed", "Asking a backend how it is failed by a bug.", ("backend",)),
    Event("config_loaded", "A policy file was put in force.", ("config_generation", "chain", "restart")),
    Event("config_refused", "A policy file has mistakes; the one before stays in force.",
          ("config_generation", "problems")),
    Event("restart_needed", "A policy file was put in force, but some of its changes only count after a restart.",
          ("config_generation", "restart")),
    Event("reload_failed", "Loading the policy file again failed by a bug; the one before stays in force.", ()),
    Event("certificate_kept_as_it_was", "The TLS certificate could not be read again.", ("problem",)),
    Event("auth_file_loaded", "A file of keys was read again.", ("file",)),
    Event("auth_file_kept_as_it_was", "A file of keys has a mistake; what was read before counts.",
          ("file", "problem")),
    Event("auth_file_missing", "A file of keys is not there; nobody is let in by it.", ("file",)),
    Event("auth_file_writable_by_everybody", "A file of keys could be changed by anybody on this machine.", ("file",)),
    Event("key_refused", "A key does not count: its entry has a mistake.", ("problem",)),
    Event("key_set_loaded", "The keys of an issuer of tokens were fetched.", ("issuer", "keys")),
    Event("key_set_unavailable", "The keys of an issuer of tokens could not be fetched.", ("issuer", "problem")),
    Event("key_set_entry_ignored", "A key of an issuer is of a kind that is not used.", ("source", "problem")),
    Event("introspection_unavailable", "A provider of opaque tokens could not be asked.", ("url", "problem")),
    Event("wrong_credentials", "So many wrong credentials came from an address that it has to wait; told once a minute "
          "of each.", ("client_address", "credential", "reason", "left_out")),
    Event("signatures_remembered_by_this_process_only", "The store is away, so a signature that another process saw "
          "would be accepted here once more.", ("problem",)),
    Event("store_lost", "The store does not answer; each limit does what it was told to do then.",
          ("store", "error", "detail")),
    Event("store_moved", "Sentinel named another primary; connections to the one of before were broken.",
          ("store", "url")),
    Event("counters_not_saved", "The counters of limits could not be written to their file. They count on in memory, "
          "and are written when that works again; a restart before that forgets what was not written.",
          ("store", "detail")),
    Event("counters_saved", "The counters of limits are written again.", ("store",)),
    Event("fleet_lost", "The Redis by which proxies share their slots does not answer; this one goes on with its share "
          "of them.", ("store", "error", "proxies")),
    Event("websocket_cut", "A WebSocket was closed without a word, as its client did not read or answer for so many "
          "seconds.", ("reason", "seconds")),
    Event("websocket_request_failed", "The proxy failed on a request of a WebSocket.", ()),
    Event("backend_ejected_elsewhere", "Another proxy of the fleet ejected a backend; this one probes it soon.",
          ("backend",)),
    Event("fleet_back", "The slots are shared again, with so many proxies, this one included.", ("store", "proxies")),
    Event("store_back", "The store answers again.", ("store",)),
    Event("recording_failed", "An answer goes on that cannot be resumed: its record could not be written, or not "
          "to its end.", ("request_id", "error", "left_out")),
    Event("deferred_waits", "Requests that run later are not begun: the journal does not answer.",
          ("error", "left_out")),
    Event("deferred_dead", "A request that ran later failed as often as it may; it stays listed, and can be retried.",
          ("entry", "error", "attempts")),
    Event("deferred_end_lost", "The journal did not take how a request ended; it may run again.", ("entry", "error")),
    Event("deferred_run_failed", "The proxy failed on a request that ran later; it will be begun again.",
          ("entry",)),
    Event("response_not_kept", "An answer could not be kept; no request can go on from it.",
          ("request_id", "error", "left_out")),
    Event("batch_result_left_out", "The file of a batch's results is as large as a file may be. The answer of this "
          "request is not in it; the file of errors names it.", ("entry",)),
    Event("batch_not_ended", "The journal has no room for the results of a batch; it is tried again.", ("reason",)),
    Event("batches_failed", "The proxy failed on a batch; it is tried again."),
    Event("webhook_given_up", "The address that a client named was not told that its request or batch is over.",
          ("entry", "reason")),
    Event("request_cancelled", "An operator ended a request.", ("request_id", "by")),
    Event("entry_cancelled", "An operator ended a deferred request or a batch.", ("entry", "by")),
    Event("entry_retried", "An operator queued a deferred request again.", ("entry", "by")),
    Event("entries_purged", "An operator deleted deferred requests that were over.", ("entries", "states", "by")),
    Event("backend_drained", "An operator takes a backend out of use.", ("backend", "by")),
    Event("backend_undrained", "An operator takes a backend into use again.", ("backend", "by")),
    Event("model_unloaded", "An operator unloaded a model.", ("backend", "model", "by")),
    Event("reload_asked", "An operator asked for the policy file to be read again.", ("by",)),
    Event("workers_serve", "All worker processes serve.", ("workers",)),
    Event("worker_ended", "A worker process is gone, by a crash or a signal; another takes its place after a pause.",
          ("worker", "worker_pid", "reason", "delay_s")),
    Event("worker_started", "A worker process serves in place of one that was gone.", ("worker", "worker_pid")),
    Event("worker_unresponsive", "A worker process did not answer its parent in time.", ("worker", "problem")),
    Event("worker_keeps_another_file", "A worker process could not load a policy file that the others loaded, and is "
          "replaced.", ("worker", "problems")),
    Event("parent_gone", "The parent of the worker processes is gone; this one lets its requests finish, and ends."),
    Event("ticks_failed", "The live view of the ops page failed."),
    Event("lifespan_failed", "The proxy could not start or stop.", ("phase",)),
    Event("log_lines_dropped", "Lines are missing before this one: nobody took them in time.", ("lines",)),
)  # fmt: skip
