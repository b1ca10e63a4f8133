-- ARGV  id, fence, data, then the lengths that the record may have before, any where there is none
-- Returns the length of the record then; -1 where the claim is not the latest or the record has another length, -2 where
-- the record would be too long.

local id, data = ARGV[2], ARGV[4]
local facts = call('HMGET', P .. 'entry:' .. id, 'state', 'fence', 'expires', 'most')
local expires = tonumber(facts[3] or 0)
if facts[1] ~= 'running' or facts[2] ~= ARGV[3] or expires <= now then return -1 end
local record = P .. 'record:' .. id
local length = call('STRLEN', record)
if not one_of(length, 5) then return -1 end
if length + #data > tonumber(facts[4]) then return -2 end
if #data == 0 then return length end
local after = call('APPEND', record, data)
if length == 0 then call('EXPIRE', record, math.ceil(expires - now)) end
news(id)
return after
