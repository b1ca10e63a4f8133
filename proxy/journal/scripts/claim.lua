-- Claims the entry whose turn it is.
--
-- ARGV  process, attempts, seconds after which an owner is lost, and why an entry ends: its owner is lost after a part
--       was read; who recorded it live is lost; it was begun too often ({} stands for the number);
--       the mark of the claim
-- Returns the entry, its body, its fence and the mark; "again" where more had to be ended than one script should; or false.

local process, attempts, lost_after = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local OWNER_LOST, LIVE_LOST, TOO_OFTEN, MARK = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local budget = 200 -- entries that are looked at

local function take(entry, charged)
  if entry.attempts >= attempts then
    over(entry, 'dead', (string.gsub(TOO_OFTEN, '{}', tostring(entry.attempts))))
    return nil
  end
  local id = entry.id
  local fence = entry.fence + 1
  if entry.state ~= 'running' then move(entry, 'running') end
  set(entry, 'state', 'running', 'attempts', entry.attempts + 1, 'fence', fence, 'mark', MARK, 'started', text(now),
    'owned', process)
  if charged then set(entry, 'charged', text(charged)) end
  put('beats', text(now), id, span_of(entry))
  call('XCLAIM', P .. 'stream:' .. entry.tenant, GROUP, process, 0, entry.sid, 'FORCE', 'JUSTID')
  news(id)
  return { shown(id), call('GET', P .. 'body:' .. id) or '', fence, MARK }
end

local heard = text(now - lost_after)
local ids = call('ZRANGEBYSCORE', P .. 'live', '-inf', heard, 'LIMIT', 0, budget)
for _, id in ipairs(ids) do
  local entry = stored(id)
  if entry then over(entry, 'failed', LIVE_LOST) else call('ZREM', P .. 'live', id) end
end
budget = budget - #ids
if sweep(math.max(1, budget)) then return 'again' end

while budget > 0 do
  local id = call('ZRANGEBYSCORE', P .. 'beats', '-inf', heard, 'LIMIT', 0, 1)[1]
  if not id then break end
  budget = budget - 1
  local entry = stored(id)
  if not entry then
    drop_rest(id)
  elseif entry.read then
    over(entry, 'failed', OWNER_LOST)
  else
    anew(entry)
    local claim = take(entry)
    if claim then return claim end
  end
end

for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'later', '-inf', text(now), 'LIMIT', 0, budget)) do
  budget = budget - 1
  local entry = stored(id)
  call('ZREM', P .. 'later', id)
  if entry then wait(entry) end
end

while budget > 0 do
  local priority = call('ZREVRANGE', P .. 'priorities', 0, 0)[1]
  if not priority then return false end
  budget = budget - 1
  local turns = P .. 'turns:' .. priority
  local first = call('ZRANGE', turns, 0, 0, 'WITHSCORES')
  local tenant, time = first[1], tonumber(first[2])
  local id = tenant and call('ZRANGE', P .. 'waiting:' .. tenant, 0, 0)[1]
  local entry = id and stored(id)
  if entry then
    if time > virtual() then
      call('SET', P .. 'virtual', text(time))
      lasts(P .. 'virtual', span_of(entry) + DAY)
      call('ZREMRANGEBYSCORE', P .. 'ahead', '-inf', text(time))
    end
    call('ZINCRBY', turns, text(span(entry)), tenant)
    local claim = take(entry, span(entry))
    if claim then return claim end
  elseif id then -- its facts were lost
    call('ZREM', P .. 'waiting:' .. tenant, id)
    stand(tenant, tonumber(priority), DAY)
  else
    if tenant then call('ZREM', turns, tenant) end
    if call('EXISTS', turns) == 0 then call('ZREM', P .. 'priorities', priority) end
  end
end
return 'again'
