-- ARGV  id, fence and mark, state, error ("" for none), usage as JSON ("" for as it is), the length of the record ("" for
--       any)
-- Ends the entry; returns it, or false where the claim is not the latest or the record has another length.

local entry, at = held(ARGV[2], ARGV[3]), tonumber(ARGV[7])
if not entry or at and call('STRLEN', P .. 'record:' .. entry.id) ~= at then return false end
even_when_full()
unset(entry, 'charged', 'error')
if ARGV[6] ~= '' then set(entry, 'usage', ARGV[6]) end
over(entry, ARGV[4], ARGV[5] ~= '' and ARGV[5] or nil)
return shown(entry.id)
