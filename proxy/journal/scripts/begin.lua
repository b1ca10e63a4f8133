-- ARGV  id, fence and mark, status, header fields as JSON
-- Notes how the answer begins; returns whether the claim is the latest.

local entry = held(ARGV[2], ARGV[3])
if not entry then return 0 end
set(entry, 'status', ARGV[4], 'answer', ARGV[5])
return 1
