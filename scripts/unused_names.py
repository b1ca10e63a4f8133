"""Names that no code of ours uses and that stay all the same, each with its reason; `vulture` reads this list.

A test holds the list to what `vulture` finds at 60 %: no name too few, none too many.
"""

# Called by pydantic
_are_headers  # config/backends.py: a validator
_belong_together  # config/backends.py: a validator
_fit  # config/settings.py: a validator
_has_a_size  # middleware/parameters/rules.py: a validator
_fit_together  # config/backends.py: a validator
_has_a_span  # config/backends.py: a validator
_is_store  # config/settings.py: a validator
_are_targets  # proxy/kernel/webhook_options.py: a validator
_is_secret  # proxy/kernel/webhook_options.py: a validator
_are_networks  # proxy/kernel/webhook_options.py: a validator
_is_whole  # config/declared_routes.py: a validator
_slots_are_taken  # config/settings.py: a validator
_workers_share_a_store  # config/settings.py: a validator
model_config  # the configuration of a pydantic model
ignored_warning_kinds  # config/json_schema.py: overrides an attribute of GenerateJsonSchema
handle_invalid_for_json_schema  # config/json_schema.py: overrides a method of GenerateJsonSchema
error_info  # config/json_schema.py: the name of its parameter there
field_title_should_be_set  # config/json_schema.py: overrides a method of GenerateJsonSchema

# Called by other libraries
max_header_length  # middleware/auth/jwt.py: a bound that joserfc reads
get_alg  # middleware/auth/jwt.py: joserfc's registry asks it
critical  # proxy/kernel/log_lines.py: structlog calls the level's name
debug  # proxy/kernel/log_lines.py: structlog calls the level's name
get_expiry  # proxy/kernel/quotas.py, proxy/stores/limits_storage.py: `limits` calls it
base_exceptions  # proxy/stores/limits_storage.py: `limits` reads it
get_moving_window  # proxy/stores/limits_storage.py: a strategy of `limits` calls it
timeout_keep_alive  # proxy/server/guarded_protocol.py: uvicorn's protocol reads it
_start_asgi_task  # proxy/server/guarded_protocol.py: uvicorn's protocol calls it
path_stats  # proxy/chain/plugin_import.py: Python's loader of source files calls it
expected_content_length  # proxy/server/http10.py: uvicorn's cycle reads it
eof_received  # asyncio calls it on a protocol
on_header  # httptools calls it
on_message_begin  # httptools calls it
on_url  # httptools calls it

# Used without being named in code
opentelemetry  # middleware/tracing/plugin.py: imported to see whether it is installed
_access  # proxy/kernel/exchange.py: a slot, found by its name in `PARTS`
_defer  # proxy/kernel/exchange.py: a slot, found by its name in `PARTS`
_blame  # proxy/kernel/exchange.py: a slot, found by its name in `PARTS`
_retry  # proxy/kernel/exchange.py: a slot, found by its name in `PARTS`
_streaming  # proxy/kernel/exchange.py: a slot, found by its name in `PARTS`
_tracing  # proxy/kernel/exchange.py: a slot, found by its name in `PARTS`
_relayed  # proxy/kernel/exchange.py: a slot, read by its name in `_fact`
_started_at  # proxy/kernel/exchange.py: a slot, read by its name in `_fact`
ASGIApplication  # proxy/server/server.py: named in a string that `cast` takes
__cause__  # proxy/kernel/errors.py: emptied, so that an error holds no other error alive
Capture  # middleware/capture/plugin.py: loaded by the table in middleware/__init__.py
Cors  # middleware/cors.py: loaded by the table in middleware/__init__.py
Defer  # middleware/defer/plugin.py: loaded by the table in middleware/__init__.py
Logging  # middleware/logging/plugin.py: loaded by the table in middleware/__init__.py
Parameters  # middleware/parameters/plugin.py: loaded by the table in middleware/__init__.py
Resumable  # middleware/resumable/plugin.py: loaded by the table in middleware/__init__.py
Streaming  # middleware/streaming.py: loaded by the table in middleware/__init__.py
Tracing  # middleware/tracing/plugin.py: loaded by the table in middleware/__init__.py
check_config  # proxy/cli.py: a command, registered by its decorator
demo  # proxy/cli.py: a command, registered by its decorator
list_requests  # proxy/commands/requests.py: a command, registered by its decorator
explain_request  # proxy/cli.py: a command, registered by its decorator
look_after  # proxy/cli.py: a command, registered by its decorator
revoke  # proxy/commands/keys.py: a command, registered by its decorator
docs  # proxy/ops/app.py: a handler, found by the name of its route
healthz  # proxy/ops/app.py: a handler, found by the name of its route
page_moved  # proxy/ops/app.py: a handler, found by the name of its route
journal_entry  # proxy/ops/app.py: a handler, found by the name of its route
journal_cancel  # proxy/ops/actions.py: a handler, found by the name of its route
journal_retry  # proxy/ops/actions.py: a handler, found by the name of its route
readyz  # proxy/ops/app.py: a handler, found by the name of its route


# Fields that are written out as a whole
age  # proxy/ops/document_types.py: a field of the status document
log_lines_dropped  # proxy/ops/document_types.py: a field of the status document
tokens_per_second  # proxy/ops/document_types.py: a field of the status document
uptime  # proxy/ops/document_types.py: a field of the status document
p50  # bench/load.py: a field of the result
p99  # bench/load.py: a field of the result

# Shown to tests by the simulator
connections_open  # a counter of the simulator
sent_chunks  # proxy/simulator/request.py: chunks of the answer that went out
tokens_delivered  # a counter of the simulator
tokens_generated  # a counter of the simulator
unloads  # a counter of the simulator
