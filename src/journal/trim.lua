--[[
  Drops log that is applied and older than the retention window.

  KEYS  1 state, 2 positions, 3 gates, 4 gate commands, 5.. lane logs
  ARGV  1 journal id, 2 seq: items at or below it go, 3 '1' when bytes, not age, ask for it: then the journal covers less
        than the retention window, and the source may be told to forget only what is older than that
  Returns items dropped.
]]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
local keep = redis.call('XREVRANGE', KEYS[2], ARGV[2] .. '-0', '-', 'COUNT', 1)[1]
if not keep then return 0 end
-- First of all what a server that is out of memory allows: what follows a write is allowed as well.
local dropped = redis.call('XTRIM', KEYS[2], 'MINID', keep[1])
redis.call('HSET', KEYS[1], 'short', ARGV[3], 'trimmed', '1')
local first = (tonumber(ARGV[2]) + 1) .. '-0'
for i = 3, #KEYS do dropped = dropped + redis.call('XTRIM', KEYS[i], 'MINID', first) end
return dropped
