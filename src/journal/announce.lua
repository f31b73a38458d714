--[[
  Wakes lanes that a gate had parked.

  KEYS  1 state
  ARGV  1 journal id, 2.. lanes
  Returns the tails of those lanes, or nil when the journal is another one.
]]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return nil end
local tails = {}
for i = 2, #ARGV do
  if redis.call('HGET', KEYS[1], 'awake:' .. ARGV[i]) == 'gate' then redis.call('HDEL', KEYS[1], 'awake:' .. ARGV[i]) end
  tails[#tails + 1] = redis.call('HGET', KEYS[1], 'tail:' .. ARGV[i]) or '0'
end
return tails
