-- Lets one request through and charges every counter, or finds some full and charges none.
--
-- ARGV  now (seconds since 1970; "" = by this server's clock), lease ("" = only look), tokens it reserves,
--       seconds it lives without a sign of life; then for each counter four: kind, amount, length, end
-- KEYS  the counters' keys in the same order; "streams" has two
-- Returns the time in ms and whether the request was let through, then for each counter: used, ms until there is more,
-- and of tokens the ms for which there is none whatever running requests give back of what they reserved (else 0).
--
-- kind     key                                                        length, end
-- streams  zset of leases ("lease tokens") by their end; the sum     any number of them where amount < 0
--          of their tokens
-- moving   list of times, newest first, as MovingWindow of `limits`  of the window, s
-- fixed    number, as FixedWindow of `limits`                        -, when the window ends, s since 1970
-- tokens   hash of sums by slice                                     of a slice, s; 0: one sum until the window ends

local SLICES = 60
local now = tonumber(ARGV[1])
if not now then
  local clock = redis.call('TIME')
  now = clock[1] + clock[2] / 1e6
end
local lease, tokens, ttl = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local reserved = 0 -- by the running requests of the quota that is being looked at; its "streams" come first

local function milliseconds(seconds)
  return math.max(0, math.ceil(seconds * 1000))
end

-- The tokens reserved by all leases. The sum is kept for a second; so it is right again soon, whatever gets lost.
local function sum(running, total)
  local known = redis.call('GET', total)
  if known then return tonumber(known) end
  local tokens = 0
  for _, member in ipairs(redis.call('ZRANGE', running, 0, -1)) do
    tokens = tokens + string.match(member, '%d+$')
  end
  redis.call('SET', total, tokens, 'PX', 1000)
  return tokens
end

local look = {}

function look.streams(counter)
  -- Looked at first: after any write at all a server without memory would let the script go on.
  if redis.call('ZCOUNT', counter.key, '-inf', now) > 0 then
    redis.call('ZREMRANGEBYSCORE', counter.key, '-inf', now)
    redis.call('DEL', counter.total)
  end
  reserved = sum(counter.key, counter.total)
  return redis.call('ZCARD', counter.key), 0
end

function look.moving(counter)
  local low, high, count = 0, math.min(counter.amount, redis.call('LLEN', counter.key)) - 1, 0
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local time = tonumber(redis.call('LINDEX', counter.key, middle))
    if time >= now - counter.length then
      count, low = middle + 1, middle + 1
      counter.oldest = time
    else
      high = middle - 1
    end
  end
  return count, counter.oldest and milliseconds(counter.oldest + counter.length - now) or 0
end

function look.fixed(counter)
  return tonumber(redis.call('GET', counter.key) or 0), milliseconds(counter.forget - now)
end

function look.tokens(counter)
  local size = counter.length
  local oldest = size > 0 and math.floor(now / size) - SLICES or 0
  local flat = redis.call('HGETALL', counter.key)
  local slices, used = {}, reserved
  counter.over = {}
  for i = 1, #flat, 2 do
    local number = tonumber(flat[i])
    if number < oldest then
      counter.over[#counter.over + 1] = flat[i]
    else
      used = used + tonumber(flat[i + 1])
      slices[#slices + 1] = { number, tonumber(flat[i + 1]) }
    end
  end
  local spent = used - reserved
  if size == 0 then
    local rest = milliseconds(counter.forget - now)
    return used, rest, spent >= counter.amount and rest or 0
  end
  table.sort(slices, function(a, b) return a[1] < b[1] end)
  local left, free, sure = used, now, now
  for _, slice in ipairs(slices) do
    if left - reserved >= counter.amount then sure = (slice[1] + SLICES + 1) * size end
    left = left - slice[2]
    free = (slice[1] + SLICES + 1) * size
    if left < counter.amount then break end
  end
  return used, milliseconds(free - now), milliseconds(sure - now)
end

local charge = {}

function charge.streams(counter)
  redis.call('ZADD', counter.key, now + ttl, lease .. ' ' .. tokens)
  redis.call('INCRBY', counter.total, tokens)
  redis.call('EXPIRE', counter.key, ttl)
end

function charge.moving(counter)
  redis.call('LPUSH', counter.key, string.format('%.17g', now))
  redis.call('LTRIM', counter.key, 0, counter.amount - 1)
  redis.call('PEXPIRE', counter.key, milliseconds(counter.length))
end

function charge.fixed(counter)
  redis.call('INCR', counter.key)
  redis.call('EXPIREAT', counter.key, counter.forget)
end

function charge.tokens(counter)
  if #counter.over > 0 then
    redis.call('HDEL', counter.key, unpack(counter.over))
  end
end

local counters, key = {}, 1
for i = 5, #ARGV, 4 do
  local counter = {
    kind = ARGV[i], amount = tonumber(ARGV[i + 1]), length = tonumber(ARGV[i + 2]),
    forget = tonumber(ARGV[i + 3]),
    key = KEYS[key],
  }
  key = key + 1
  if counter.kind == 'streams' then
    counter.total = KEYS[key]
    key = key + 1
  end
  counters[#counters + 1] = counter
end

local answer, full = { milliseconds(now), 0 }, false
for _, counter in ipairs(counters) do
  local used, resets, sure = look[counter.kind](counter)
  full = full or (counter.amount >= 0 and used >= counter.amount)
  answer[#answer + 1] = used
  answer[#answer + 1] = resets
  answer[#answer + 1] = sure or 0
end
if lease ~= '' and not full then
  answer[2] = 1
  for _, counter in ipairs(counters) do
    charge[counter.kind](counter)
  end
end
return answer
