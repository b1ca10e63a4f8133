-- ARGV  id, reason, most entries of a batch to end
-- Returns the entry and whether the batch may have more to end; false where there is no such entry.

even_when_full()
local entry = current(ARGV[2])
if not entry then return false end
if not OVER[entry.state] and not entry.late then over(entry, 'cancelled', 'cancelled: ' .. ARGV[3]) end
local left = tonumber(ARGV[4])
if entry.kind == 'batch' then
  for _, state in ipairs({ 'queued', 'running' }) do
    local kids = P .. 'kids:' .. entry.id .. ':' .. state
    local ids = left > 0 and call('ZRANGE', kids, 0, left - 1) or {}
    for _, id in ipairs(ids) do
      local child = stored(id)
      if child then over(child, 'cancelled', 'cancelled: ' .. ARGV[3]) else call('ZREM', kids, id) end
      left = left - 1
    end
  end
end
return { shown(entry.id), left <= 0 and 1 or 0 }
