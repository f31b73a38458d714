--[[
  The journal is not whole, and ingest makes it anew: a lane stands at a marker whose gate is gone, or a round met items
  that the head does not know (a server that restarted twice from a torn AOF runs half of a script: Redis 7.0.15).

  KEYS  1 state, 2 gates, 3 gate commands
  ARGV  1 journal id, 2 seq of the gate; '' = found by a commit
  Returns 1 when the journal has this hole, 0 when it has not or is another one.
]]
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
local id = ARGV[2] .. '-0'
if ARGV[2] ~= '' and redis.call('XRANGE', KEYS[2], id, id)[1] and redis.call('XRANGE', KEYS[3], id, id)[1] then return 0 end
redis.call('HSET', KEYS[1], 'hole', ARGV[2])
return 1
