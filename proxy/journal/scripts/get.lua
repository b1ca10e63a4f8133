-- ARGV  id, "body" or ""
-- Returns the entry, or its body; false where there is none.

local entry = shown(ARGV[2])
if entry and ARGV[3] == 'body' then return call('GET', P .. 'body:' .. ARGV[2]) end
return entry
