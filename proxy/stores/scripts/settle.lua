-- Ends one lease and counts the tokens its request really used.
--
-- ARGV  now (seconds since 1970; "" = by this server's clock), member ("lease tokens"), tokens reserved, tokens used,
--       "again" where an attempt before may have succeeded: then a lease that is gone is left alone;
--       then for each quota the number of its token windows, and for each of these two: length of a slice, end
-- KEYS  for each quota: its leases, the sum of their tokens, and its token windows; all as in admit.lua

local now = tonumber(ARGV[1])
if not now then
  local clock = redis.call('TIME')
  now = clock[1] + clock[2] / 1e6
end
local member, reserved, used, again = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == 'again'
local key, argument = 1, 6
while argument <= #ARGV do
  local windows = tonumber(ARGV[argument])
  local held = redis.call('ZREM', KEYS[key], member) == 1
  if held and redis.call('EXISTS', KEYS[key + 1]) == 1 then
    redis.call('DECRBY', KEYS[key + 1], reserved)
  end
  for window = 1, windows do
    local size, forget = tonumber(ARGV[argument + 2 * window - 1]), ARGV[argument + 2 * window]
    local sums = KEYS[key + 1 + window]
    if used > 0 and (held or not again) then
      redis.call('HINCRBY', sums, size > 0 and math.floor(now / size) or 0, used)
      if size > 0 then
        redis.call('PEXPIRE', sums, math.ceil(size * 62000))
      else
        redis.call('EXPIREAT', sums, forget)
      end
    end
  end
  key = key + 2 + windows
  argument = argument + 1 + 2 * windows
end
return 1
