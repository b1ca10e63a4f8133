-- ARGV  id, and fence and mark, of each claim, in pairs
-- Notes that the owners live; returns the ids of claims that are not the latest.

even_when_full()
local fenced = {}
for i = 2, #ARGV, 2 do
  local entry = held(ARGV[i], ARGV[i + 1])
  if not entry then
    fenced[#fenced + 1] = ARGV[i]
  elseif entry.kind == 'request' then
    put('beats', text(now), entry.id, span_of(entry))
    call('XCLAIM', P .. 'stream:' .. entry.tenant, GROUP, entry.owned, 0, entry.sid, 'JUSTID')
  else
    put('live', text(now), entry.id, span_of(entry))
  end
end
return fenced
