-- Lists a page of entries, newest first.
--
-- ARGV  owner, parent, kinds, states ("" for any; several with spaces between), the id behind which the list begins,
--       the number below which it begins (one of the two, or ""), most entries, most to look at
-- Returns the number of the last that was looked at (0: there are no more), then for each that was found its number and
-- the entry.

local owner, parent, after, below = ARGV[2], ARGV[3], ARGV[6], ARGV[7]
local most, looks = tonumber(ARGV[8]), tonumber(ARGV[9])

local function names(words)
  if words == '' then return nil end
  local set = {}
  for word in string.gmatch(words, '%S+') do set[word] = true end
  return set
end

local kinds, states = names(ARGV[4]), names(ARGV[5])
if after ~= '' then below = call('ZSCORE', P .. 'all', after) or '' end
local index = P .. (owner ~= '' and 'by:' .. owner or 'all')
if owner == '' and states and kinds and kinds.request and not string.find(ARGV[4], ' ') and not string.find(ARGV[5], ' ') then
  index = P .. 'state:' .. ARGV[5]
end
local from = below == '' and '+inf' or '(' .. below
local found, last, seen = {}, 0, 0
local page = call('ZREVRANGEBYSCORE', index, from, '-inf', 'WITHSCORES', 'LIMIT', 0, looks)
for i = 1, #page, 2 do
  local id = page[i]
  local facts = call('HMGET', P .. 'entry:' .. id, 'kind', 'state', 'owner', 'parent')
  last, seen = page[i + 1], seen + 1
  if facts[1] and (not kinds or kinds[facts[1]]) and (not states or states[facts[2]])
    and (owner == '' or facts[3] == owner) and (parent == '' or facts[4] == parent) then
    local entry = shown(id)
    if entry then found[#found + 1] = { tonumber(last), entry } end
    if #found == most then break end
  end
end
if seen < looks and #found < most then last = 0 end
return { tonumber(last), found }
