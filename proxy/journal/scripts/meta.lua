-- ARGV  id, state of a file or a batch ("" for as it is), then the changes: name and JSON, in pairs
-- Returns the entry; false where there is none.

local entry = current(ARGV[2])
if not entry then return false end
local changes = {}
for i = 4, #ARGV, 2 do
  changes[#changes + 1] = 'm:' .. ARGV[i]
  changes[#changes + 1] = ARGV[i + 1]
end
if #changes > 0 then set(entry, unpack(changes)) end
local state = ARGV[3]
if state ~= '' and (entry.kind == 'file' or entry.kind == 'batch') and not OVER[entry.state] then
  if OVER[state] then
    over(entry, state)
  else
    move(entry, state)
    set(entry, 'state', state)
    if state == 'running' and not entry.started then set(entry, 'started', text(now)) end
  end
end
news(entry.id)
return shown(entry.id)
