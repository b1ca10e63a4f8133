-- Puts an entry in, or finds the one with its idempotency key.
--
-- ARGV  id, body, idempotency key, most of its owner, most of all, open requests in other partitions ("" for none of
--       these), then the fields of the entry, in pairs
-- Returns "added" or "known" and the entry; or "id" (it is taken), or a bound that is reached and the open requests

local id, body, key, per_owner, most, others = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local entry = { id = id }
for i = 8, #ARGV, 2 do entry[ARGV[i]] = ARGV[i + 1] end
for _, name in ipairs({ 'priority', 'cost', 'weight', 'expires' }) do entry[name] = tonumber(entry[name]) end

if key ~= '' then
  entry.key = P .. 'key:' .. #entry.owner .. ':' .. entry.owner .. ':' .. key
  local known = call('GET', entry.key)
  local view = known and shown(known)
  if view then return { 'known', view } end
end
if call('EXISTS', P .. 'entry:' .. id) == 1 then return { 'id' } end

local function open_of_owner()
  return call('ZCARD', P .. 'open:' .. entry.owner)
end

local function open()
  return others + call('ZCARD', P .. 'state:queued') + call('ZCARD', P .. 'state:running')
end

local function full()
  if per_owner ~= '' and open_of_owner() >= tonumber(per_owner) then return { 'identity', open_of_owner() } end
  if most ~= '' and open() >= tonumber(most) then return { 'entries', open() } end
end

if entry.kind == 'request' and full() then
  while sweep(100) do end
  for _, known in ipairs(call('ZRANGE', P .. 'open:' .. entry.owner, 0, -1)) do
    if call('EXISTS', P .. 'entry:' .. known) == 0 then call('ZREM', P .. 'open:' .. entry.owner, known) end
  end
  local bound = full()
  if bound then return bound end
end

-- The first write is one that a server without memory refuses.
call('HSET', P .. 'entry:' .. id, unpack(ARGV, 8))
call('SET', P .. 'body:' .. id, body)
entry.number = call('INCR', P .. 'number')
local seconds = span_of(entry)
lasts(P .. 'number', seconds + DAY)
local live = entry.kind == 'live'
set(entry, 'number', entry.number, 'fence', live and 1 or 0, 'attempts', live and 1 or 0,
  'state', live and 'running' or 'queued')
if tonumber(entry.created) == 0 then set(entry, 'created', text(now)) end
if live then set(entry, 'started', text(now)) end
if entry.key then
  call('SET', entry.key, id)
  set(entry, 'key', entry.key)
end
put('all', entry.number, id, seconds)
put('by:' .. entry.owner, entry.number, id, seconds)
put('expiries', text(entry.expires), id, seconds)
move(entry, live and 'running' or 'queued')
keep(entry)
if entry.kind == 'request' then wait(entry) end
return { 'added', shown(id) }
