-- ARGV  id
-- Queues a request again that has not completed; returns the entry, false where there is none.

local id = ARGV[2]
local entry = current(id)
if not entry then return false end
if entry.late then
  while sweep(100) do end
  entry = current(id)
end
if entry.kind == 'request' and OVER[entry.state] and entry.state ~= 'completed' then
  local kept = math.max(entry.expires - tonumber(entry.ended or entry.expires), 60)
  entry.expires = math.max(entry.expires, now + kept)
  set(entry, 'state', 'queued', 'attempts', 0, 'expires', text(entry.expires))
  unset(entry, 'ended', 'error', 'usage', 'charged')
  anew(entry)
  put('expiries', text(entry.expires), id, span_of(entry))
  for _, name in ipairs({ 'all', 'by:' .. entry.owner, 'number' }) do lasts(P .. name, span_of(entry)) end
  move(entry, 'queued')
  keep(entry)
  wait(entry)
  news(id)
end
return shown(id)
