-- ARGV  id, or "" and a state of which all requests go, and the most of them
-- Returns how many there were.

even_when_full()
if ARGV[2] ~= '' then
  local known, entry = current(ARGV[2]), stored(ARGV[2])
  if entry then drop(entry) end
  return known and 1 or 0
end
local ids = call('ZRANGE', P .. 'state:' .. ARGV[3], 0, tonumber(ARGV[4]) - 1)
for _, id in ipairs(ids) do
  local entry = stored(id)
  if entry then drop(entry) else drop_rest(id) end
end
return #ids
