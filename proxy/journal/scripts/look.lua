-- Says what there is to claim, and claims nothing.
--
-- ARGV  seconds after which an owner is lost ("" for not asked), the virtual time of the other partitions ("" where
--       there is one partition)
-- Returns the number of open requests, ms until one may be claimed (-1: none waits), whether an owner is lost, the
-- priority and the time of the tenant that goes next ("" for none), and the virtual time.

local lost_after, reached = tonumber(ARGV[2]), tonumber(ARGV[3])
if reached then
  -- Who began to wait while this partition was behind the others gets no turns for it.
  for _, tenant in ipairs(call('SMEMBERS', P .. 'fresh')) do
    local priority = priority_of(tenant)
    local turns = priority and P .. 'turns:' .. priority
    if turns and tonumber(call('ZSCORE', turns, tenant) or 0) < reached then
      call('ZADD', turns, text(reached), tenant)
    end
  end
  call('DEL', P .. 'fresh')
end
local open = call('ZCARD', P .. 'state:queued') + call('ZCARD', P .. 'state:running')
local lost = 0
if lost_after then lost = math.min(1, call('ZCOUNT', P .. 'beats', '-inf', text(now - lost_after))) end
local ready, priority, time = -1, '', ''
local first = call('ZREVRANGE', P .. 'priorities', 0, 0)
if first[1] then
  ready, priority = 0, first[1]
  local tenant = call('ZRANGE', P .. 'turns:' .. priority, 0, 0, 'WITHSCORES')
  time = tenant[2] or ''
else
  local later = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')
  if later[2] then ready = math.ceil(math.max(0, tonumber(later[2]) - now) * 1000) end
end
return { open, ready, lost, priority, time, text(virtual()) }
