-- ARGV  id, fence and mark, state, error ("" for none), usage as JSON ("" for as it is)
-- Ends the entry; returns it, or false where the claim is not the latest.

local entry = held(ARGV[2], ARGV[3])
if not entry then return false end
even_when_full()
unset(entry, 'charged', 'error')
if ARGV[6] ~= '' then set(entry, 'usage', ARGV[6]) end
over(entry, ARGV[4], ARGV[5] ~= '' and ARGV[5] or nil)
return shown(entry.id)
