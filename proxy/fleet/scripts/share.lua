-- One proxy says what it holds and who waits there; gives back, renews and takes permits in one step.
--
-- A permit is the right to run one request on one backend. What a proxy holds is a number, not a list: `held` as it
-- says, and what was granted to it since. So a call that is lost, or comes twice, counts nothing twice.
--
-- Where others may run more than is written here, nothing but local shares is granted until all had time to say what
-- they run: on a server that was started, promoted or flushed since, and after a time in which nobody called.
--
-- KEYS  the prefix of all keys, whose hash tag puts them on one node
-- ARGV  now (seconds since 1970; "" = by this server's clock), the proxy, seconds to live (0 = it leaves), the number
--       of the call, seconds without a call after which others may have gone on alone, seconds to settle then, and
--       JSON: {backends: [[url, slots, held, grants seen, local share]],
--       demands: [[tenant, priority, weight, cost, waiting, seconds waited, [url, best first]]],
--       retries: those that it saved, ejected: [url]}
--
-- Keys  :alive            zset  proxy -> when its permits expire
--       :calls            hash  proxy -> number of its latest call
--       :demands          hash  proxy -> its demands, as JSON
--       :held:<url>       hash  proxy -> "permits grants": what it holds, and how many were ever granted to it
--       :turns, :clock    zset  tenant -> virtual time up to which it has paid; and that of the one which went last
--       :server, :heard   the server that wrote this; when somebody called last
--       :settled          until when only local shares are granted
--       :told:<url>       set while the proxies that hold permits know that somebody waits
--       :retries          retries that no proxy has with it
--       :ejected          hash  proxy -> the backends that it ejected, as JSON
-- Channel :grants:<proxy>  JSON {grants: [[url, grants, tenant]], wanted: [url]}

local prefix, now, proxy, ttl = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local number, quiet, settle = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local said = cjson.decode(ARGV[7])
if not now then
  local clock = redis.call('TIME')
  now = clock[1] + clock[2] / 1e6
end
local KEPT, TURNS = 86400, 1000
local alive_key, demands_key, turns_key = prefix .. ':alive', prefix .. ':demands', prefix .. ':turns'
local ejected_key, retries_key = prefix .. ':ejected', prefix .. ':retries'

local function forget(who)
  redis.call('ZREM', alive_key, who)
  redis.call('HDEL', prefix .. ':calls', who)
  redis.call('HDEL', demands_key, who)
  redis.call('HDEL', ejected_key, who)
end

if number <= tonumber(redis.call('HGET', prefix .. ':calls', proxy) or '-1') then return cjson.encode({late = true}) end

-- Whether others may run more than is written here.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
local heard = tonumber(redis.call('GET', prefix .. ':heard') or '0')
local alone = now - heard > quiet and redis.call('ZCARD', alive_key) > 0
local before = redis.call('GET', prefix .. ':server')
if before ~= server or alone then
  if before and before ~= server then settle = 3 * settle end -- clients of the old one take a while to come
  redis.call('SET', prefix .. ':settled', string.format('%.17g', now + settle), 'EX', KEPT)
  redis.call('SET', prefix .. ':server', server, 'EX', KEPT)
end
redis.call('SET', prefix .. ':heard', string.format('%.17g', now), 'EX', KEPT)
local settling = math.max(0, tonumber(redis.call('GET', prefix .. ':settled') or '0') - now) -- seconds

for _, dead in ipairs(redis.call('ZRANGEBYSCORE', alive_key, '-inf', now)) do forget(dead) end
if ttl > 0 then
  redis.call('ZADD', alive_key, now + ttl, proxy)
  redis.call('HSET', prefix .. ':calls', proxy, number)
else
  forget(proxy)
end
local proxies = redis.call('ZRANGE', alive_key, 0, -1)
table.sort(proxies)
local living, rank = {}, 0
for place, who in ipairs(proxies) do
  living[who] = true
  if who == proxy then rank = place - 1 end
end

-- What everybody holds of the backends in question.
local held, grants, taken, slots, shares, unseen = {}, {}, {}, {}, {}, {}
for _, backend in ipairs(said.backends) do
  local url, seen = backend[1], backend[4]
  local key = prefix .. ':held:' .. url
  held[url], grants[url], taken[url], slots[url], shares[url] = {}, {}, 0, backend[2], backend[5]
  local all = redis.call('HGETALL', key)
  local before = 0
  for i = 1, #all, 2 do
    local who = all[i]
    local count, granted = string.match(all[i + 1], '^(%d+) (%d+)$')
    if who == proxy then
      before = tonumber(granted)
    elseif living[who] then
      held[url][who], grants[url][who] = tonumber(count), tonumber(granted)
      taken[url] = taken[url] + held[url][who]
    else
      redis.call('HDEL', key, who)
    end
  end
  if ttl > 0 then
    grants[url][proxy] = math.max(before, seen)
    unseen[url] = math.max(0, before - seen)
    held[url][proxy] = backend[3] + unseen[url]
    taken[url] = taken[url] + held[url][proxy]
    redis.call('HSET', key, proxy, held[url][proxy] .. ' ' .. grants[url][proxy])
  else
    redis.call('HDEL', key, proxy)
  end
  redis.call('EXPIRE', key, KEPT)
end

-- Who waits, here and elsewhere.
if ttl > 0 and #said.demands > 0 then
  for _, demand in ipairs(said.demands) do
    demand[6] = now - demand[6]
    for _, url in ipairs(demand[7]) do -- grants on their way serve some of those who wait
      local served = math.min(demand[5], unseen[url] or 0)
      demand[5] = demand[5] - served
      if served > 0 then unseen[url] = unseen[url] - served end
    end
  end
  redis.call('HSET', demands_key, proxy, cjson.encode(said.demands))
else
  redis.call('HDEL', demands_key, proxy)
end
local waiting, lists = {}, {}
local all = redis.call('HGETALL', demands_key)
for i = 1, #all, 2 do
  if living[all[i]] then
    lists[all[i]] = cjson.decode(all[i + 1])
    for _, demand in ipairs(lists[all[i]]) do waiting[#waiting + 1] = {who = all[i], demand = demand} end
  end
end

local clock = tonumber(redis.call('GET', prefix .. ':clock') or '0')
local turns = {}
local function turn_of(tenant)
  if not turns[tenant] then
    turns[tenant] = math.max(clock, tonumber(redis.call('ZSCORE', turns_key, tenant) or '0'))
  end
  return turns[tenant]
end

local function place_for(entry)
  for _, url in ipairs(entry.demand[7]) do
    if slots[url] and taken[url] < slots[url] then
      if settling == 0 then return url end
      if entry.who == proxy and held[url][proxy] < shares[url] then return url end
    end
  end
end

local function goes_before(a, b)
  if a.demand[2] ~= b.demand[2] then return a.demand[2] > b.demand[2] end
  local one, other = turn_of(a.demand[1]), turn_of(b.demand[1])
  if one ~= other then return one < other end
  return a.demand[6] < b.demand[6]
end

-- Grant what is free, in the order of turns.
local own, news, changed = {}, {}, {}
while true do
  local best, where
  for _, entry in ipairs(waiting) do
    if entry.demand[5] > 0 and (not best or goes_before(entry, best)) then
      local url = place_for(entry)
      if url then best, where = entry, url end
    end
  end
  if not best then break end
  local who, tenant = best.who, best.demand[1]
  best.demand[5] = best.demand[5] - 1
  changed[who] = true
  local paid = turn_of(tenant)
  clock = math.max(clock, paid)
  turns[tenant] = paid + best.demand[4] / best.demand[3]
  redis.call('ZADD', turns_key, turns[tenant], tenant)
  taken[where] = taken[where] + 1
  held[where][who] = (held[where][who] or 0) + 1
  if not grants[where][who] then grants[where][who] = 0 end
  grants[where][who] = grants[where][who] + 1
  redis.call('HSET', prefix .. ':held:' .. where, who, held[where][who] .. ' ' .. grants[where][who])
  if who == proxy then
    own[#own + 1] = tenant
  else
    news[who] = news[who] or {grants = {}, wanted = {}}
    table.insert(news[who].grants, {where, grants[where][who], tenant})
  end
end
if next(changed) then
  redis.call('SET', prefix .. ':clock', string.format('%.17g', clock), 'EX', KEPT)
  if redis.call('ZCARD', turns_key) > TURNS then redis.call('ZREMRANGEBYSCORE', turns_key, '-inf', clock) end
  redis.call('EXPIRE', turns_key, KEPT)
  for who in pairs(changed) do
    local left = {}
    for _, demand in ipairs(lists[who]) do
      if demand[5] > 0 then left[#left + 1] = demand end
    end
    if #left > 0 then
      redis.call('HSET', demands_key, who, cjson.encode(left))
    else
      redis.call('HDEL', demands_key, who)
    end
  end
end

-- Tell those who hold permits of a backend that somebody else waits for one.
local waits = {}
for _, entry in ipairs(waiting) do
  if entry.demand[5] > 0 then
    for _, url in ipairs(entry.demand[7]) do
      if slots[url] then
        waits[url] = waits[url] or {}
        waits[url][entry.who] = true
      end
    end
  end
end
for url, by in pairs(waits) do
  if by[proxy] and redis.call('SET', prefix .. ':told:' .. url, 1, 'NX', 'PX', 200) then
    for who, count in pairs(held[url]) do
      if who ~= proxy and count > 0 then
        news[who] = news[who] or {grants = {}, wanted = {}}
        table.insert(news[who].wanted, url)
      end
    end
  end
end
for who, message in pairs(news) do redis.call('PUBLISH', prefix .. ':grants:' .. who, cjson.encode(message)) end

-- Retries that were saved are divided among all; what the proxies say of backends is passed on.
local saved, retries = tonumber(redis.call('GET', retries_key) or '0') + said.retries, 0
if ttl > 0 then
  retries = saved / math.max(1, #proxies)
  if #said.ejected > 0 then
    redis.call('HSET', ejected_key, proxy, cjson.encode(said.ejected))
  else
    redis.call('HDEL', ejected_key, proxy)
  end
end
redis.call('SET', retries_key, string.format('%.17g', saved - retries), 'EX', KEPT)
local ejected, all_ejected = {}, redis.call('HGETALL', ejected_key)
for i = 1, #all_ejected, 2 do
  if living[all_ejected[i]] and all_ejected[i] ~= proxy then
    for _, url in ipairs(cjson.decode(all_ejected[i + 1])) do ejected[#ejected + 1] = url end
  end
end

local seen = {}
for _, backend in ipairs(said.backends) do
  local url, others_wait = backend[1], false
  for who in pairs(waits[url] or {}) do others_wait = others_wait or who ~= proxy end
  seen[#seen + 1] = {url, grants[url][proxy] or 0, taken[url] - (held[url][proxy] or 0), others_wait}
end
for _, key in ipairs({alive_key, prefix .. ':calls', demands_key, ejected_key}) do
  redis.call('EXPIRE', key, KEPT)
end
return cjson.encode({
  alive = math.max(1, #proxies), rank = rank, settling = string.format('%.17g', settling), backends = seen, tenants = own,
  retries = string.format('%.17g', retries), ejected = ejected,
})
