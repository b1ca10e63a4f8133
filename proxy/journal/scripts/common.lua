-- Put before each script of this folder: what they share.
--
-- KEYS  the prefix of the partition's keys. It holds the hash tag, so that all keys made from it are on one node.
-- ARGV  now (seconds since 1970; "" = by this server's clock), then what each script says.
-- EXPIRED_FOR stands before this text: the seconds for which an entry that did not run in time is still listed.
--
-- key (behind the prefix)    type    what
-- entry:ID                   hash    an entry
-- body:ID, record:ID         string  the bytes of the request and of the answer
-- key:LENGTH:OWNER:KEY       string  the id of the entry with this idempotency key
-- all, by:OWNER              zset    ids by number, the newest last
-- open:OWNER                 zset    ids of the owner's open requests
-- state:STATE                zset    ids of requests by number
-- kids:PARENT:STATE          zset    ids of a batch's entries by number
-- expiries                   zset    ids by when they expire
-- stream:TENANT              stream  the tenant's open requests; the pending list of its group says which process has which
-- waiting:TENANT             zset    ids of those that may be claimed, the first one first (`place`)
-- later                      zset    ids of those that may be claimed later, by when
-- priorities                 zset    priorities that wait
-- turns:PRIORITY             zset    tenants whose first entry has this priority, by their virtual time
-- ahead                      zset    tenants with nothing waiting that are ahead of the others, by their virtual time
-- fresh                      set     tenants that began to wait since the last look (only where there are several partitions)
-- virtual                    string  the virtual time of the tenant that went last
-- beats, live                zset    ids of running requests, and of answers recorded live, by when their owner was heard
-- number                     string  the number of the latest entry

local P = KEYS[1]
local DAY = 86400
local GROUP = 'owners'
local OVER = { completed = 1, failed = 1, cancelled = 1, expired = 1, dead = 1 }
local now = tonumber(ARGV[1])
if not now then
  local clock = redis.call('TIME')
  now = clock[1] + clock[2] / 1e6
end
local call = redis.call

local function text(number)
  return string.format('%.17g', number)
end

-- A write that takes no memory. After it a server without memory lets the script go on, see RedisJournal.
local function even_when_full()
  call('DEL', P .. 'nothing')
end

-- Lets a key last for at least so many seconds.
local function lasts(key, seconds)
  if call('TTL', key) < seconds then call('EXPIRE', key, math.ceil(seconds)) end
end

local function put(name, score, member, seconds)
  call('ZADD', P .. name, score, member)
  lasts(P .. name, seconds)
end

local function stored(id)
  local flat = call('HGETALL', P .. 'entry:' .. id)
  if #flat == 0 then return nil end
  local entry = { id = id }
  for i = 1, #flat, 2 do entry[flat[i]] = flat[i + 1] end
  for _, name in ipairs({ 'number', 'priority', 'cost', 'weight', 'expires', 'attempts', 'fence' }) do
    entry[name] = tonumber(entry[name])
  end
  return entry
end

local function rest(entry)
  return math.max(1, entry.expires - now)
end

-- For how long what refers to an entry is kept.
local function span_of(entry)
  return rest(entry) + EXPIRED_FOR + DAY
end

-- Sets the time to live of an entry's keys. Words go with the entry; its facts stay a day longer, to be counted off.
local function keep(entry)
  local words = rest(entry) + (OVER[entry.state] and 0 or EXPIRED_FOR)
  call('EXPIRE', P .. 'entry:' .. entry.id, math.ceil(span_of(entry)))
  call('EXPIRE', P .. 'body:' .. entry.id, math.ceil(words))
  call('EXPIRE', P .. 'record:' .. entry.id, math.ceil(words))
  if entry.key then call('EXPIRE', entry.key, math.ceil(words)) end
end

local function news(id)
  call('PUBLISH', NEWS .. id, '')
end

-- Turns

-- Sorts the entries of a tenant: higher priorities first, then older ones. Exact for 2^32 entries and 2^20 priorities.
local function place(entry)
  return entry.number - entry.priority * 4294967296
end

local function span(entry)
  return math.max(entry.cost, 1) / entry.weight
end

local function virtual()
  return tonumber(call('GET', P .. 'virtual') or 0)
end

-- The priority of the tenant's first entry; nil where it has none.
local function priority_of(tenant)
  local first = call('ZRANGE', P .. 'waiting:' .. tenant, 0, 0, 'WITHSCORES')
  return first[2] and -math.floor(tonumber(first[2]) / 4294967296)
end

-- Puts a tenant where its first entry says, after a change; `before` is the priority at which it stood, or nil.
local function stand(tenant, before, seconds)
  local priority = priority_of(tenant)
  if priority == before then return end
  local time
  if before then
    local turns = P .. 'turns:' .. before
    time = tonumber(call('ZSCORE', turns, tenant) or 0)
    call('ZREM', turns, tenant)
    if call('EXISTS', turns) == 0 then call('ZREM', P .. 'priorities', before) end
  else
    time = math.max(virtual(), tonumber(call('ZSCORE', P .. 'ahead', tenant) or 0))
    call('ZREM', P .. 'ahead', tenant)
    if PARTITIONS > 1 then
      call('SADD', P .. 'fresh', tenant)
      lasts(P .. 'fresh', seconds)
    end
  end
  if priority then
    put('turns:' .. priority, text(time), tenant, seconds)
    put('priorities', priority, priority, seconds)
  elseif time > virtual() then
    put('ahead', text(time), tenant, seconds)
  end
end

-- Lets a queued entry wait: now, or from `ready` on.
local function wait(entry, ready)
  local seconds = span_of(entry)
  if ready then
    put('later', text(ready), entry.id, seconds)
  else
    local before = priority_of(entry.tenant)
    put('waiting:' .. entry.tenant, place(entry), entry.id, seconds)
    stand(entry.tenant, before, seconds)
  end
  call('PUBLISH', NEWS, '')
end

-- Takes an entry out of all that wait.
local function leave(entry)
  call('ZREM', P .. 'later', entry.id)
  local before = priority_of(entry.tenant)
  if call('ZREM', P .. 'waiting:' .. entry.tenant, entry.id) == 1 then
    stand(entry.tenant, before, span_of(entry))
  end
end

-- The tenant's stream

local function join_stream(entry)
  local stream = P .. 'stream:' .. entry.tenant
  if call('EXISTS', stream) == 0 then call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM') end
  entry.sid = call('XADD', stream, '*', 'id', entry.id)
  call('HSET', P .. 'entry:' .. entry.id, 'sid', entry.sid)
  lasts(stream, span_of(entry))
end

local function leave_stream(entry)
  if not entry.sid then return end
  local stream = P .. 'stream:' .. entry.tenant
  if call('EXISTS', stream) == 0 then return end
  call('XACK', stream, GROUP, entry.sid)
  call('XDEL', stream, entry.sid)
  if call('XLEN', stream) == 0 then call('DEL', stream) end -- and with it the names of processes that are gone
end

-- States

-- Moves an entry to another state, in every list that has it. The caller stores the state.
local function move(entry, state)
  local id, before, seconds = entry.id, entry.state, span_of(entry)
  if entry.kind == 'request' then
    if before then call('ZREM', P .. 'state:' .. before, id) end
    put('state:' .. state, entry.number, id, seconds)
    if before == 'queued' then leave(entry) end
    if before == 'running' then call('ZREM', P .. 'beats', id) end
    if OVER[state] then
      call('ZREM', P .. 'open:' .. entry.owner, id)
      leave_stream(entry)
    else
      put('open:' .. entry.owner, entry.number, id, seconds)
      if not before or OVER[before] then join_stream(entry) end
    end
  elseif OVER[state] then
    call('ZREM', P .. 'live', id)
  end
  if entry.parent then
    if before then call('ZREM', P .. 'kids:' .. entry.parent .. ':' .. before, id) end
    put('kids:' .. entry.parent .. ':' .. state, entry.number, id, seconds)
  end
  entry.state = state
end

local function set(entry, ...)
  call('HSET', P .. 'entry:' .. entry.id, ...)
end

local function unset(entry, ...)
  call('HDEL', P .. 'entry:' .. entry.id, ...)
end

-- Ends an entry.
local function over(entry, state, reason, ended)
  move(entry, state)
  set(entry, 'state', state, 'ended', text(ended or now))
  if reason then set(entry, 'error', reason) end
  keep(entry)
  news(entry.id)
end

-- Empties the record, and forgets how the answer began.
local function anew(entry)
  call('DEL', P .. 'record:' .. entry.id)
  unset(entry, 'status', 'answer', 'read')
  entry.status, entry.answer, entry.read = nil, nil, nil
end

local function drop(entry)
  local id = entry.id
  if entry.kind == 'request' and entry.state == 'queued' then leave(entry) end
  if entry.kind == 'request' and not OVER[entry.state] then leave_stream(entry) end
  call('DEL', P .. 'entry:' .. id, P .. 'body:' .. id, P .. 'record:' .. id)
  for _, name in ipairs({ 'all', 'expiries', 'beats', 'live', 'by:' .. entry.owner, 'open:' .. entry.owner }) do
    call('ZREM', P .. name, id)
  end
  call('ZREM', P .. 'state:' .. entry.state, id)
  if entry.parent then call('ZREM', P .. 'kids:' .. entry.parent .. ':' .. entry.state, id) end
  if entry.key and call('GET', entry.key) == id then call('DEL', entry.key) end
  news(id)
end

-- Drops what refers to an entry whose facts are gone: nobody swept for longer than they last.
local function drop_rest(id)
  for _, name in ipairs({ 'all', 'expiries', 'beats', 'live', 'later' }) do call('ZREM', P .. name, id) end
  for _, state in ipairs({ 'queued', 'running', 'completed', 'failed', 'cancelled', 'expired', 'dead' }) do
    call('ZREM', P .. 'state:' .. state, id)
  end
end

-- Expires what is due, at most so many entries; returns whether there may be more.
local function sweep(most)
  local due = call('ZRANGEBYSCORE', P .. 'expiries', '-inf', text(now), 'LIMIT', 0, most)
  for _, id in ipairs(due) do
    local entry = stored(id)
    if not entry then
      drop_rest(id)
    elseif entry.kind == 'request' and entry.state == 'queued' and now < entry.expires + EXPIRED_FOR then
      local ended = entry.expires
      entry.expires = ended + EXPIRED_FOR
      set(entry, 'expires', text(entry.expires))
      put('expiries', text(entry.expires), id, span_of(entry))
      over(entry, 'expired', nil, ended)
    else
      drop(entry)
    end
  end
  return #due == most
end

-- Returns an entry as it is by now; nil where it is gone, although it may still be stored.
local function current(id)
  local entry = stored(id)
  if not entry then return nil end
  if entry.expires > now then return entry end
  if entry.kind == 'request' and entry.state == 'queued' and now < entry.expires + EXPIRED_FOR then
    entry.late = true
    return entry
  end
  return nil
end

-- Returns the entry of a claim that is the latest, and else nil.
local function held(id, fence)
  local entry = stored(id)
  if entry and entry.state == 'running' and entry.fence == tonumber(fence) and entry.expires > now then return entry end
  return nil
end

-- Returns whether a length is among the arguments from the one of that number on, or there are none.
local function one_of(length, first)
  for i = first, #ARGV do
    if length == tonumber(ARGV[i]) then return true end
  end
  return #ARGV < first
end

-- What Python makes an Entry of: the fields, bytes of the record, position (or -1), whether it has expired unswept.
local function shown(id)
  local entry = current(id)
  if not entry then return false end
  local position = -1
  if entry.kind == 'request' and entry.state == 'queued' and not entry.late then
    position = call('ZCOUNT', P .. 'waiting:' .. entry.tenant, '-inf', '(' .. text(place(entry)))
  end
  local fields = call('HGETALL', P .. 'entry:' .. id)
  return { fields, call('STRLEN', P .. 'record:' .. id), position, entry.late and 1 or 0 }
end
