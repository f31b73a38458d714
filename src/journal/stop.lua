--[[
  Stops ingest for what its holder met, unless the role has gone to another one: then that one decides for itself.

  KEYS  1 state, 2 stops
  ARGV  1 place, 2 stop record, 3 journal id, 4 epoch, 5 source position that the journal has reached
  Returns {'stopped', record before, or ''}
          {'superseded'} when another journal, ingest or position is in force, or there is none
]]
local state = redis.call('HMGET', KEYS[1], 'id', 'epoch', 'position')
if state[1] ~= ARGV[3] or state[2] ~= ARGV[4] or state[3] ~= ARGV[5] then return {'superseded'} end
local before = redis.call('HGET', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return {'stopped', before or ''}
