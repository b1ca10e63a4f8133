-- ARGV  the batch whose entries are counted; "" for all requests
-- Returns state, number, state, number …

local counts = {}
for _, state in ipairs({ 'queued', 'running', 'completed', 'failed', 'cancelled', 'expired', 'dead' }) do
  local key = ARGV[2] == '' and 'state:' .. state or 'kids:' .. ARGV[2] .. ':' .. state
  counts[#counts + 1] = state
  counts[#counts + 1] = call('ZCARD', P .. key)
end
return counts
