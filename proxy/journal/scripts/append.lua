-- ARGV  id, fence and mark, data, the length of the record before ("" for any)
-- Returns the length of the record then; -1 where the claim is not the latest, or the record has neither that length nor
-- the data already; -2 where the record would be too long.

local id, data, at = ARGV[2], ARGV[4], tonumber(ARGV[5])
local facts = call('HMGET', P .. 'entry:' .. id, 'state', 'fence', 'expires', 'most', 'mark')
local expires = tonumber(facts[3] or 0)
if facts[1] ~= 'running' or not is_latest(ARGV[3], facts[2], facts[5]) or expires <= now then return -1 end
local record = P .. 'record:' .. id
local length = call('STRLEN', record)
if at and length ~= at then return length == at + #data and length or -1 end
if length + #data > tonumber(facts[4]) then return -2 end
if #data == 0 then return length end
local after = call('APPEND', record, data)
if length == 0 then call('EXPIRE', record, math.ceil(expires - now)) end
news(id)
return after
