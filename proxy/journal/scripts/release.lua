-- ARGV  id, fence and mark, seconds before which it is not claimed again, "counts" or ""
-- Queues the entry again; returns whether the claim is the latest.

local entry = held(ARGV[2], ARGV[3])
if not entry then return 0 end
even_when_full()
local again_after, counts = tonumber(ARGV[4]), ARGV[5] == 'counts'
call('XACK', P .. 'stream:' .. entry.tenant, GROUP, entry.sid)
anew(entry)
move(entry, 'queued')
set(entry, 'state', 'queued', 'attempts', counts and entry.attempts or entry.attempts - 1)
unset(entry, 'started', 'charged', 'owned')
keep(entry)
wait(entry, again_after > 0 and now + again_after or nil)
local priority = priority_of(entry.tenant)
if entry.charged and not counts and priority then
  -- It did not run: its tenant gets back what the claim has cost.
  local turns = P .. 'turns:' .. priority
  local time = tonumber(call('ZSCORE', turns, entry.tenant))
  call('ZADD', turns, text(math.max(0, time - tonumber(entry.charged))), entry.tenant)
end
news(entry.id)
return 1
