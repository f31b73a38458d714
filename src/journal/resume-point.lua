--[[
  Where the source can be resumed so that everything up to a seq stays applied.

  KEYS  1 state, 2 positions
  ARGV  1 journal id, 2 seq
  Returns {seq before the position, position, tails joined by commas}, or nil when the journal is another one
  or knows no position that far back.
]]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return nil end
local found = redis.call('XREVRANGE', KEYS[2], ARGV[2] .. '-0', '-', 'COUNT', 1)[1]
if not found then
  -- In front of the first round there is only the place where the journal begins.
  local start = redis.call('HMGET', KEYS[1], 'startSeq', 'startPosition', 'startTails', 'trimmed')
  if not start[1] or start[4] or tonumber(start[1]) > tonumber(ARGV[2]) then return nil end
  return {start[1], start[2], start[3]}
end
return {string.match(found[1], '^%d+'), found[2][2], found[2][4]}
