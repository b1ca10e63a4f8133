-- ARGV  id, offset, most bytes
-- Returns a part of the record, and notes that it was read; false where there is no such entry.

local entry = current(ARGV[2])
if not entry then return false end
local offset, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
if offset < 0 or limit <= 0 then return '' end
local data = call('GETRANGE', P .. 'record:' .. entry.id, ARGV[3], string.format('%d', offset + limit - 1))
if #data > 0 and not entry.read and not OVER[entry.state] then
  even_when_full()
  set(entry, 'read', 1)
end
return data
