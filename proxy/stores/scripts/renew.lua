-- Keeps leases alive; one that was lost with the server's memory comes back.
--
-- ARGV  now (seconds since 1970; "" = by this server's clock), seconds to live, then a member ("lease tokens") for
--       each pair of keys
-- KEYS  leases, and the sum of their tokens; as in admit.lua

local now = tonumber(ARGV[1])
if not now then
  local clock = redis.call('TIME')
  now = clock[1] + clock[2] / 1e6
end
local ttl = tonumber(ARGV[2])
for i = 1, #KEYS, 2 do
  if redis.call('ZADD', KEYS[i], now + ttl, ARGV[2 + (i + 1) / 2]) == 1 then
    redis.call('DEL', KEYS[i + 1]) -- summed anew by the next request
  end
  redis.call('EXPIRE', KEYS[i], ttl)
end
return 1
