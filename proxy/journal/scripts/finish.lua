-- ARGV  id, fence, state, error ("" for none), usage as JSON ("" for as it is), then the lengths that the record may have,
--       any where there is none
-- Ends the entry; returns it, or false where the claim is not the latest or the record has another length.

local entry = held(ARGV[2], ARGV[3])
if not entry or not one_of(call('STRLEN', P .. 'record:' .. entry.id), 7) then return false end
even_when_full()
unset(entry, 'charged', 'error')
if ARGV[6] ~= '' then set(entry, 'usage', ARGV[6]) end
over(entry, ARGV[4], ARGV[5] ~= '' and ARGV[5] or nil)
return shown(entry.id)
